import type { ComponentChildren } from 'preact';

/** Settings that belong together. */
export function Group({ title, hint, tools, children }: { title: string; hint?: string; tools?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="card group">
      <header>
        <div>
          <h3>{title}</h3>
          {hint && <p class="hint">{hint}</p>}
        </div>
        {tools}
      </header>
      <div class="stack">{children}</div>
    </section>
  );
}
