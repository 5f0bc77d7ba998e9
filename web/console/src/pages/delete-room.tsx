import type { Room } from '../model/room.js';
import { tell } from '../state/notices.js';
import { useApi } from '../state/session.js';
import { Confirm } from '../ui/dialog.js';

/** Deletes a room, once its name has been typed. */
export function DeleteRoom({ room, onClose, onDeleted }: { room: Room; onClose: () => void; onDeleted: () => void }) {
  const api = useApi();
  const remove = async () => {
    await api.call('DELETE', `/v1/rooms/${room._id}`);
    tell(`“${room.name}” is deleted.`);
    onDeleted();
  };
  return (
    <Confirm title={`Delete “${room.name}”?`} action="Delete the room" typed={room.name} onConfirm={remove} onClose={onClose}>
      <p>Everybody who is in it is dropped, and its settings are gone.</p>
    </Confirm>
  );
}
