import { Toggle } from '../ui/fields.js';
import { BoundText } from './bound.js';
import { useEditor } from './editor.js';
import { Group } from './group.js';

/** The room's account at a SIP server. */
export function SipSection() {
  const editor = useEditor();
  const hasAccount = editor.draft.value.sip !== undefined;
  return (
    <Group title="SIP" hint="The account under which the room is registered at a SIP server.">
      <Toggle
        label="The room has a SIP account"
        value={hasAccount}
        onChange={(on) => editor.set(['sip'], on ? (editor.base.value.sip ?? { sipServer: '', username: '', password: '' }) : undefined)}
        testId="sip"
      />
      {hasAccount && (
        <>
          <BoundText path={['sip', 'sipServer']} label="Server" />
          <div class="row">
            <BoundText path={['sip', 'username']} label="User" />
            <BoundText path={['sip', 'password']} label="Password" type="password" />
          </div>
        </>
      )}
    </Group>
  );
}
