import type { KindFlags, Role } from '../model/room.js';
import { Action } from '../ui/buttons.js';
import { useEditor } from './editor.js';
import { Group } from './group.js';

const RIGHTS: { action: 'publish' | 'subscribe'; kind: keyof KindFlags; label: string }[] = [
  { action: 'publish', kind: 'audio', label: 'publish audio' },
  { action: 'publish', kind: 'video', label: 'publish video' },
  { action: 'subscribe', kind: 'audio', label: 'subscribe audio' },
  { action: 'subscribe', kind: 'video', label: 'subscribe video' },
];

/** Roles, and what each may do. */
export function RolesSection() {
  const editor = useEditor();
  const roles = editor.draft.value.roles;
  const set = (next: Role[]) => editor.set(['roles'], next);
  const addRole = () => {
    const names = new Set(roles.map(({ role }) => role));
    let n = 1;
    while (names.has(`role_${n}`)) n++;
    set([...roles, { role: `role_${n}`, publish: { audio: true, video: true }, subscribe: { audio: true, video: true } }]);
  };
  return (
    <Group
      title="Roles"
      hint="A token is made for one of them. A participant’s own permissions can be changed while it is there."
      tools={
        <Action icon="plus" onClick={addRole} testId="add-role">
          Add role
        </Action>
      }
    >
      <div class="table-wrap">
        <table class="roles">
          <thead>
            <tr>
              <th scope="col">Role</th>
              {RIGHTS.map(({ label }) => (
                <th scope="col" key={label}>
                  {label}
                </th>
              ))}
              <th scope="col">
                <span class="unseen">Remove</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {roles.map((role, i) => (
              <RoleRow key={i} role={role} index={i} onRemove={() => set(roles.filter((_, other) => other !== i))} />
            ))}
          </tbody>
        </table>
      </div>
      {roles.length === 0 && <p class="problem">Without roles nobody can come in.</p>}
    </Group>
  );
}

function RoleRow({ role, index, onRemove }: { role: Role; index: number; onRemove: () => void }) {
  const editor = useEditor();
  const error = editor.problem('roles', index, 'role');
  return (
    <tr>
      <td>
        <input
          class="inline"
          aria-label={`Name of role ${index + 1}`}
          aria-invalid={error ? true : undefined}
          aria-describedby={error ? `role-error-${index}` : undefined}
          value={role.role}
          onInput={(event) => editor.set(['roles', index, 'role'], event.currentTarget.value)}
          data-testid={`roles.${index}.role`}
        />
        {error && (
          <p class="field-error" id={`role-error-${index}`} data-testid="field-error">
            {error}
          </p>
        )}
      </td>
      {RIGHTS.map(({ action, kind, label }) => (
        <td key={label} class="centre">
          <input
            type="checkbox"
            aria-label={`${role.role} may ${label}`}
            checked={role[action]?.[kind] === true}
            onChange={(event) => editor.set(['roles', index, action, kind], event.currentTarget.checked)}
            data-testid={`roles.${index}.${action}.${kind}`}
          />
        </td>
      ))}
      <td>
        <Action icon="trash" label={`Remove ${role.role}`} onClick={onRemove} />
      </td>
    </tr>
  );
}
