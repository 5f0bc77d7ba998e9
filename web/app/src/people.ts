import type { ConferenceInfo, Participant, RemoteStream } from '../../sdk/src/kaigi.js';
import { h, hueOf, icon, initials } from './dom.js';

/** Everyone in the room, with what they send. */
export class People {
  readonly element = h('ul', { class: 'people', 'aria-label': 'Participants', 'data-testid': 'participant-list' });

  /** `speaking` is the id of the participant who is loudest now. */
  show(info: ConferenceInfo, speaking: string | undefined): void {
    const streams = [...info.streams.values()].filter(({ type }) => type === 'forward');
    const others = [...info.participants.values()].filter((participant) => participant !== info.self);
    others.sort((a, b) => a.user.localeCompare(b.user));
    this.element.replaceChildren(
      ...[info.self, ...others].map((participant) =>
        this.#entry(participant, participant === info.self, streams.filter(({ owner }) => owner === participant.id), participant.id === speaking),
      ),
    );
  }

  #entry(participant: Participant, self: boolean, streams: RemoteStream[], speaking: boolean): HTMLElement {
    const name = participant.user || 'Guest';
    const cameras = streams.filter((stream) => stream.source('video') !== 'screen-cast');
    const audible = cameras.some((stream) => stream.isActive('audio'));
    const visible = cameras.some((stream) => stream.isActive('video'));
    const sharing = streams.some((stream) => stream.source('video') === 'screen-cast');
    const sign = (shown: Parameters<typeof icon>[0], label: string) => h('span', { class: 'sign', role: 'img', 'aria-label': label, title: label }, icon(shown));
    return h(
      'li',
      { class: speaking ? 'person speaking' : 'person', 'data-testid': 'participant', 'data-participant-id': participant.id },
      h('span', { class: 'avatar small', 'aria-hidden': 'true', style: `--hue: ${hueOf(name)}` }, initials(name)),
      h('span', { class: 'person-name' }, name, self && h('span', { class: 'optional' }, 'you')),
      h('span', { class: 'badge' }, participant.role),
      sharing && sign('screen', 'shares a screen'),
      sign(audible ? 'microphone' : 'microphoneOff', audible ? 'microphone on' : 'microphone off'),
      sign(visible ? 'camera' : 'cameraOff', visible ? 'camera on' : 'camera off'),
    );
  }
}
