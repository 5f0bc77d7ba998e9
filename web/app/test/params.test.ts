import { describe, expect, it } from 'vitest';
import { hueOf, initials } from '../src/dom.js';
import { inviteLink, readParameters, tokenOf } from '../src/params.js';

describe('the page’s address', () => {
  it('asks for nothing by default', () => {
    expect(readParameters('')).toEqual({
      name: undefined, room: undefined, role: 'presenter', view: 'mix', join: false, camera: 'on', microphone: 'on', simulcast: false, debug: false,
    });
  });

  it('can say everything', () => {
    expect(readParameters('?name=%20Aki&room=r&role=viewer&view=grid&join=1&camera=generated&microphone=off&simulcast&debug=1')).toEqual({
      name: 'Aki', room: 'r', role: 'viewer', view: 'grid', join: true, camera: 'generated', microphone: 'off', simulcast: true, debug: true,
    });
  });

  it('may bring a token behind its #', () => {
    expect(tokenOf('#token=a%2Bb%3D')).toBe('a+b=');
    expect(tokenOf('#token=')).toBeUndefined();
    expect(tokenOf('')).toBeUndefined();
  });

  it('takes what makes no sense for the default', () => {
    expect(readParameters('?view=x&join=0&camera=x&name=')).toMatchObject({ view: 'mix', join: false, camera: 'on', name: undefined });
  });

  it('of an invitation names the room and nobody', () => {
    expect(inviteLink('https://k.example/app/?name=Aki&join=1#x', 'a b')).toBe('https://k.example/app/?room=a+b');
  });
});

describe('a name', () => {
  it.each([['Aki Tanaka', 'AT'], ['ben', 'B'], ['  ', '?'], ['山田 太郎', '山太'], ['a b c', 'AC']])('%j is short for %j', (name, short) => {
    expect(initials(name)).toBe(short);
  });

  it('has a colour of its own', () => {
    expect(hueOf('Aki')).toBe(hueOf('Aki'));
    expect(hueOf('Aki')).not.toBe(hueOf('Ben'));
  });
});
