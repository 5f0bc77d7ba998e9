import { MAX_TEXT_LENGTH } from '../../sdk/src/kaigi.js';
import { h, icon } from './dom.js';

/** Older lines go, so that a long conference doesn't fill the page. */
const MAX_LINES = 500;

/** The texts of the conference and a line to write one. */
export class Chat {
  readonly element: HTMLElement;
  readonly #log = h('ol', { class: 'chat-log', role: 'log', 'aria-live': 'polite', 'aria-label': 'Messages', tabindex: 0, 'data-testid': 'chat-log' });
  readonly #input = h('input', {
    'aria-label': 'Message to everyone', placeholder: 'Message to everyone', maxlength: MAX_TEXT_LENGTH, autocomplete: 'off',
    enterkeyhint: 'send', 'data-testid': 'chat-input',
  });
  readonly #send: (text: string) => Promise<void>;

  constructor(send: (text: string) => Promise<void>) {
    this.#send = send;
    this.element = h(
      'div',
      { class: 'chat' },
      this.#log,
      h(
        'form',
        { class: 'chat-form', onsubmit: (event: Event) => (event.preventDefault(), void this.#submit()) },
        this.#input,
        h('button', { type: 'submit', class: 'round', 'aria-label': 'Send', title: 'Send', 'data-testid': 'chat-send' }, icon('send')),
      ),
    );
  }

  add(from: string, message: string, mine: boolean, note = ''): void {
    const time = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    this.#append(
      h(
        'li',
        { class: mine ? 'message mine' : 'message', 'data-testid': 'chat-message' },
        h('p', { class: 'message-head' }, h('span', { class: 'message-from' }, from), ` ${time}${note}`),
        h('p', { class: 'message-text' }, message),
      ),
    );
  }

  /** A line about the conference itself. */
  remark(text: string): void {
    this.#append(h('li', { class: 'remark' }, text));
  }

  focus(): void {
    this.#input.focus();
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #append(line: HTMLElement): void {
    const atEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 60;
    this.#log.append(line);
    while (this.#log.children.length > MAX_LINES) this.#log.firstElementChild?.remove();
    if (atEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }

  async #submit(): Promise<void> {
    const text = this.#input.value.trim();
    if (text === '') return;
    this.#input.value = '';
    try {
      await this.#send(text);
    } catch (error) {
      this.remark(`Not sent: ${error instanceof Error ? error.message : String(error)}`);
      if (this.#input.value === '') this.#input.value = text;
    }
  }
}
