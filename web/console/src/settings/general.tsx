import { BoundNumber, BoundText, BoundToggle } from './bound.js';
import { Group } from './group.js';

/** Name, limits, and what happens by itself. */
export function GeneralSection() {
  return (
    <>
      <Group title="Room">
        <BoundText path={['name']} label="Name" />
        <div class="row">
          <BoundNumber path={['participantLimit']} label="Participants at most" hint="−1: no limit" min={-1} />
          <BoundNumber path={['inputLimit']} label="Publications at most" hint="−1: no limit; 0: none" min={-1} />
        </div>
      </Group>
      <Group title="Behaviour">
        <BoundToggle path={['autoMix']} label="Mix everybody" hint="Every publication goes into every view, without a request for each" />
        <BoundToggle path={['selectActiveAudio']} label="Select active audio" hint="Three more streams carry the sound of those who speak" />
        <BoundToggle path={['enableBandwidthAdaptation']} label="Adapt to bandwidth" hint="The server chooses among the layers of simulcast streams" />
      </Group>
      <Group title="Clients are told">
        <BoundToggle path={['notifying', 'participantActivities']} label="Who joins and leaves" />
        <BoundToggle path={['notifying', 'streamChange']} label="Streams that come, change and go" />
      </Group>
    </>
  );
}
