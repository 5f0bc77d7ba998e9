import { render } from 'preact';
import './state/theme.js';
import { resume } from './state/session.js';
import { App } from './pages/app.js';

void resume();
render(<App />, document.getElementById('app') ?? document.body);
