import type { ConferenceClient, DisconnectReason, RemoteStream } from '../../sdk/src/kaigi.js';
import { Chat } from './chat.js';
import { h, icon, iconButton, setButton } from './dom.js';
import { canShareScreen, GENERATED, type LocalMedia } from './media.js';
import { notify } from './notices.js';
import { OwnMedia } from './own.js';
import { inviteLink, type View } from './params.js';
import { People } from './people.js';
import { Stage } from './stage.js';
import { StatsPanel, type Watched } from './stats-panel.js';
import { Tile } from './tile.js';

export interface ConferenceOptions {
  client: ConferenceClient;
  media: LocalMedia;
  name: string;
  /** The room's id, for invitations. */
  room: string;
  /** What people call the room. */
  roomName: string;
  view: View;
  speaker: string;
  simulcast: boolean;
  /** Media is encrypted end to end: the server can't mix it. */
  encrypted: boolean;
  /** Show the statistics from the start. */
  debug: boolean;
  /** The participant wants to go. */
  left: () => void;
  /** The server is gone and the participant wants to go on; fails with a reason for people. */
  rejoin: () => Promise<void>;
}

type Panel = 'people' | 'chat';

/** Why it is over, for people. */
const DISCONNECTED: Record<DisconnectReason, string> = {
  dropped: 'The server ended the conference for you.',
  'connection-lost': 'The connection to the server was lost, and could not be made again.',
  refused: 'The server did not let you back in.',
};

/** The conference: pictures in the middle, what others say and who they are at the side, one's own switches below. */
export class ConferenceScreen {
  readonly element: HTMLElement;
  readonly #options: ConferenceOptions;
  readonly #client: ConferenceClient;
  readonly #own: OwnMedia;
  readonly #self: Tile;
  readonly #stage: Stage;
  readonly #chat: Chat;
  readonly #people = new People();
  readonly #stats: StatsPanel;
  readonly #unsubscribe: (() => void)[] = [];
  readonly #title = h('h1', { class: 'room-name', tabindex: -1, 'data-testid': 'room-name' });
  readonly #viewer = h('span', { class: 'badge', 'data-testid': 'viewer-badge', hidden: true }, 'Viewer');
  readonly #encrypted = h('span', { class: 'badge', 'data-testid': 'encrypted-badge', hidden: true }, 'Encrypted');
  readonly #count = h('span', { class: 'count', 'aria-hidden': 'true' });
  readonly #unread = h('span', { class: 'unread', 'aria-hidden': 'true', hidden: true });
  readonly #blocked = h('button', { type: 'button', class: 'primary sound', 'data-testid': 'sound-button', hidden: true, onclick: () => this.#unblock() }, icon('sound'), 'Turn sound on');
  readonly #trouble = h('p', { class: 'trouble', role: 'status', 'data-testid': 'trouble', 'data-state': 'none' });
  readonly #sharing = h(
    'p',
    { class: 'sharing', 'data-testid': 'sharing', hidden: true },
    'You are sharing your screen',
    h('button', { type: 'button', class: 'plain', onclick: () => this.#own.stopScreen() }, 'Stop'),
  );
  readonly #mixButton = this.#viewButton('mix', 'Together');
  readonly #gridButton = this.#viewButton('grid', 'Side by side');
  readonly #statsButton = iconButton('stats', 'Statistics', 'stats-button', () => this.#toggleStats());
  readonly #microphoneButton = iconButton('microphone', 'Turn microphone off', 'microphone-button', () => this.#own.toggleMicrophone());
  readonly #cameraButton = iconButton('camera', 'Turn camera off', 'camera-button', () => this.#own.toggleCamera());
  readonly #screenButton = iconButton('screen', 'Share your screen', 'share-button', () => void this.#own.toggleScreen());
  readonly #ownControls = h(
    'div',
    { class: 'own-controls' },
    this.#microphoneButton,
    this.#cameraButton,
    this.#screenButton,
    h('span', { class: 'divider', role: 'separator' }),
  );
  readonly #peopleButton = iconButton('people', 'People', 'people-button', () => this.#openPanel('people'));
  readonly #chatButton = iconButton('chat', 'Chat', 'chat-button', () => this.#openPanel('chat'));
  readonly #panelTitle = h('h2', {});
  readonly #panelBody = h('div', { class: 'panel-body' });
  readonly #panel = h('aside', { class: 'panel', 'data-testid': 'panel', hidden: true });
  #opened: Panel | undefined;
  #unreadCount = 0;
  #cutOff = false;
  #interrupted = false;
  #speaking: string | undefined;

  constructor(options: ConferenceOptions) {
    this.#options = options;
    this.#client = options.client;
    const info = this.#client.info;
    this.#title.textContent = options.roomName;
    this.#encrypted.hidden = !options.encrypted;
    this.#own = new OwnMedia(this.#client, options.media, options.name, options.simulcast, {
      changed: () => this.#refresh(),
      refused: (reason) => this.#watchOnly(`You can watch, but not send: ${reason}.`),
      problem: (message) => notify(message, 'warning'),
    });
    this.#self = new Tile('self', options.name, undefined, () => {});
    this.#self.setState('live');
    this.#chat = new Chat((text) => this.#client.send(text));
    this.#stats = new StatsPanel(() => this.#watched(), () => this.#toggleStats());
    this.#stage = new Stage({
      client: this.#client,
      self: this.#self,
      view: options.view,
      speaker: options.speaker,
      encrypted: options.encrypted,
      blocked: () => (this.#blocked.hidden = false),
      changed: (view, mixAvailable) => this.#showView(view, mixAvailable),
    });
    this.element = this.#build();
    this.#listen();
    if (!info?.permission.publish.audio && !info?.permission.publish.video) this.#watchOnly('');
    else this.#own.start();
    if (options.debug) this.#toggleStats();
    this.#refresh();
  }

  focus(): void {
    this.#title.focus();
  }

  close(): void {
    for (const off of this.#unsubscribe) off();
    this.#own.close();
    this.#stage.close();
    this.#stats.close();
    this.element.remove();
  }

  #build(): HTMLElement {
    this.#peopleButton.append(this.#count);
    this.#chatButton.append(this.#unread);
    for (const button of [this.#peopleButton, this.#chatButton, this.#statsButton]) button.setAttribute('aria-expanded', 'false');
    this.#panel.append(
      h('header', {}, this.#panelTitle, iconButton('close', 'Close', 'panel-close', () => this.#closePanel())),
      this.#panelBody,
    );
    this.#stage.element.append(this.#stats.element);
    const leave = iconButton('leave', 'Leave the conference', 'leave-button', this.#options.left);
    leave.classList.add('danger');
    const copy = iconButton('link', 'Copy a link that invites others', 'invite-button', () => void this.#copyLink());
    copy.hidden = navigator.clipboard === undefined;
    return h(
      'main',
      {
        class: 'conference',
        'data-testid': 'conference',
        'data-participant-id': this.#client.info?.self.id,
        onkeydown: (event: KeyboardEvent) => event.key === 'Escape' && this.#opened && this.#closePanel(),
      },
      h(
        'header',
        { class: 'top' },
        h('div', { class: 'top-title' }, this.#title, this.#viewer, this.#encrypted),
        h('div', { class: 'segments', role: 'group', 'aria-label': 'View' }, this.#mixButton, this.#gridButton),
        h('div', { class: 'top-tools' }, copy, this.#statsButton),
      ),
      h('div', { class: 'middle' }, h('div', { class: 'stage-column' }, this.#trouble, this.#sharing, this.#stage.element, this.#blocked), this.#panel),
      h(
        'footer',
        { class: 'controls', role: 'toolbar', 'aria-label': 'Conference' },
        this.#ownControls,
        this.#peopleButton,
        this.#chatButton,
        h('span', { class: 'divider', role: 'separator' }),
        leave,
      ),
    );
  }

  #viewButton(view: View, label: string): HTMLButtonElement {
    return h('button', { type: 'button', 'data-testid': `view-${view}`, title: label, onclick: () => (this.#stage.view = view) }, icon(view), h('span', {}, label));
  }

  #listen(): void {
    const client = this.#client;
    this.#unsubscribe.push(
      client.on('streamadded', ({ stream }) => {
        this.#stage.add(stream);
        this.#refresh();
      }),
      client.on('streamremoved', ({ stream }) => {
        this.#stage.remove(stream);
        this.#refresh();
      }),
      client.on('streamupdated', ({ stream }) => {
        this.#stage.refresh(stream);
        this.#refresh();
      }),
      client.on('participantjoined', ({ participant }) => {
        this.#chat.remark(`${participant.user || 'Guest'} joined`);
        this.#refresh();
      }),
      client.on('participantleft', ({ participant }) => {
        this.#chat.remark(`${participant.user || 'Guest'} left`);
        this.#refresh();
      }),
      client.on('messagereceived', ({ from, to, message }) => {
        const mine = from === client.info?.self;
        this.#chat.add(mine ? 'You' : from?.user || 'Guest', message, mine, to === 'me' ? ', to you only' : '');
        if (!mine && this.#opened !== 'chat') this.#setUnread(this.#unreadCount + 1);
      }),
      client.on('activeaudioinputchange', ({ stream, activeInput, volume }) => this.#onSpeaker(stream, activeInput, volume)),
      client.on('reconnecting', () => this.#showTrouble({ cutOff: true })),
      client.on('reconnected', ({ sameParticipant }) => {
        this.#showTrouble({ cutOff: false });
        if (!sameParticipant) this.element.dataset.participantId = client.info?.self.id;
        this.#refresh();
      }),
      client.on('mediainterrupted', () => this.#showTrouble({ interrupted: true })),
      client.on('mediarecovered', () => this.#showTrouble({ interrupted: false })),
      client.on('disconnected', ({ reason }) => {
        this.#showTrouble({ cutOff: false, interrupted: false });
        this.#showDisconnected(DISCONNECTED[reason]);
      }),
    );
  }

  /** Shows the state of one's own media and of the people. */
  #refresh(): void {
    const { media } = this.#options;
    const info = this.#client.info;
    const { audible, visible, sharing } = this.#own;
    this.#self.show(media.video && streamOf(media.video));
    this.#self.picture = visible;
    this.#self.mirrored = media.camera !== GENERATED;
    this.#self.microphoneOff = !audible;
    setButton(this.#microphoneButton, audible ? 'microphone' : 'microphoneOff', audible ? 'Turn microphone off' : 'Turn microphone on');
    setButton(this.#cameraButton, visible ? 'camera' : 'cameraOff', visible ? 'Turn camera off' : 'Turn camera on');
    setButton(this.#screenButton, 'screen', sharing ? 'Stop sharing your screen' : 'Share your screen');
    this.#microphoneButton.classList.toggle('off', !audible);
    this.#cameraButton.classList.toggle('off', !visible);
    this.#screenButton.classList.toggle('active', sharing);
    this.#microphoneButton.hidden = !this.#own.may('audio');
    this.#cameraButton.hidden = !this.#own.may('video');
    this.#screenButton.hidden = !this.#own.may('video') || !canShareScreen();
    this.#sharing.hidden = !sharing;
    this.element.dataset.publishing = String(this.#own.publication !== undefined);
    if (!info) return;
    this.#count.textContent = String(info.participants.size);
    setLabel(this.#peopleButton, `People, ${info.participants.size} here`);
    this.#people.show(info, this.#speaking);
  }

  #watchOnly(reason: string): void {
    this.#ownControls.hidden = true;
    this.#stage.hideSelf();
    this.#options.media.stopAudio();
    this.#options.media.stopVideo();
    this.#viewer.hidden = false;
    if (reason !== '') notify(reason, 'warning');
    this.#refresh();
  }

  #onSpeaker(stream: RemoteStream, activeInput: string, volume: string | undefined): void {
    // Where the room selects speakers, it says who leads sooner than a mixer does.
    const selects = [...(this.#client.info?.streams.values() ?? [])].some(({ isSelecting }) => isSelecting);
    if (selects ? volume !== 'major' : stream.type !== 'mixed') return;
    this.#stage.speaking(activeInput);
    this.#self.speaking = activeInput === this.#own.publication?.id;
    this.#speaking = this.#client.info?.streams.get(activeInput)?.owner;
    this.#refresh();
  }

  /** Says what is being repaired. The line is always there, so that screen readers notice when it changes. */
  #showTrouble({ cutOff = this.#cutOff, interrupted = this.#interrupted }: { cutOff?: boolean; interrupted?: boolean }): void {
    this.#cutOff = cutOff;
    this.#interrupted = interrupted;
    this.#trouble.dataset.state = cutOff ? 'reconnecting' : interrupted ? 'interrupted' : 'none';
    this.#trouble.textContent = cutOff
      ? 'The connection is lost. Reconnecting…'
      : interrupted
        ? 'Picture and sound are interrupted. They will be back in a moment.'
        : '';
  }

  #showView(view: View, mixAvailable: boolean): void {
    this.#mixButton.setAttribute('aria-pressed', String(view === 'mix'));
    this.#gridButton.setAttribute('aria-pressed', String(view === 'grid'));
    this.#mixButton.disabled = !mixAvailable;
  }

  #openPanel(panel: Panel): void {
    if (this.#opened === panel) return this.#closePanel();
    this.#opened = panel;
    this.#panel.hidden = false;
    this.#panelTitle.textContent = panel === 'people' ? 'People' : 'Chat';
    this.#panel.setAttribute('aria-label', this.#panelTitle.textContent);
    this.#panelBody.replaceChildren(panel === 'people' ? this.#people.element : this.#chat.element);
    if (panel === 'chat') {
      this.#setUnread(0);
      this.#chat.focus();
    }
    this.#showOpened();
  }

  #closePanel(): void {
    const opener = this.#opened === 'chat' ? this.#chatButton : this.#peopleButton;
    this.#opened = undefined;
    this.#panel.hidden = true;
    this.#showOpened();
    opener.focus();
  }

  #showOpened(): void {
    this.#peopleButton.setAttribute('aria-expanded', String(this.#opened === 'people'));
    this.#chatButton.setAttribute('aria-expanded', String(this.#opened === 'chat'));
  }

  #setUnread(count: number): void {
    this.#unreadCount = count;
    this.#unread.hidden = count === 0;
    this.#unread.textContent = count > 9 ? '9+' : String(count);
    setLabel(this.#chatButton, count === 0 ? 'Chat' : `Chat, ${count} unread`);
  }

  #toggleStats(): void {
    this.#stats.shown = !this.#stats.shown;
    this.#statsButton.setAttribute('aria-expanded', String(this.#stats.shown));
  }

  #watched(): Watched[] {
    const { publication, screen } = this.#own;
    const sent: Watched[] = [];
    if (publication) sent.push({ name: 'You', session: publication, direction: 'sent' });
    if (screen) sent.push({ name: 'Your screen', session: screen, direction: 'sent' });
    const received = [...this.#stage.feeds.values()].flatMap(({ subscription, tile }): Watched[] =>
      subscription && tile.element.isConnected ? [{ name: tile.name, session: subscription, direction: 'received' }] : [],
    );
    return [...sent, ...received];
  }

  #unblock(): void {
    this.#blocked.hidden = true;
    this.#stage.play();
  }

  async #copyLink(): Promise<void> {
    try {
      await navigator.clipboard.writeText(inviteLink(location.href, this.#options.room));
      notify('The link is copied. Whoever opens it can join.');
    } catch {
      notify('The browser doesn’t allow copying.', 'warning');
    }
  }

  #showDisconnected(message: string): void {
    this.#own.close();
    const error = h('p', { class: 'error', role: 'alert', hidden: true });
    const rejoin = h('button', { type: 'button', class: 'primary', 'data-testid': 'rejoin-button' }, 'Join again');
    const dialog = h(
      'dialog',
      { class: 'card dialog', 'aria-label': 'Disconnected', 'data-testid': 'disconnected' },
      h('h2', {}, 'You are not connected any more'),
      h('p', {}, message),
      error,
      h('div', { class: 'dialog-buttons' }, rejoin, h('button', { type: 'button', class: 'plain', onclick: this.#options.left }, 'Back to the start')),
    );
    rejoin.addEventListener('click', async () => {
      rejoin.disabled = true;
      error.hidden = true;
      try {
        await this.#options.rejoin();
      } catch (reason) {
        error.textContent = reason instanceof Error ? reason.message : String(reason);
        error.hidden = false;
        rejoin.disabled = false;
      }
    });
    dialog.addEventListener('cancel', (event) => event.preventDefault());
    this.element.append(dialog);
    dialog.showModal();
    rejoin.focus();
  }
}

function setLabel(button: HTMLElement, label: string): void {
  button.setAttribute('aria-label', label);
  button.title = label;
}

const ownStreams = new WeakMap<MediaStreamTrack, MediaStream>();

/** The same stream for the same track, so that showing it again doesn't restart the picture. */
function streamOf(track: MediaStreamTrack): MediaStream {
  const stream = ownStreams.get(track) ?? new MediaStream([track]);
  ownStreams.set(track, stream);
  return stream;
}
