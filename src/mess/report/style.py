"""How a report's page looks: one column on a telephone, several on a desk, light or dark as the reader's system is."""

from mess.report.colours import PALETTE, variables

COLOURS = f"""
:root {{ color-scheme: light dark; {variables(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}
{"".join(f".c-{name} {{ background: var(--{name}); }} " for name in PALETTE)}
"""
RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.015em; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h3 { font-size: 0.95rem; margin: 34px 0 4px; }
h2 + h3 { margin-top: 14px; }
p { margin: 0 0 10px; }
a { color: var(--blue); }
.note { color: var(--muted); font-size: 0.875rem; max-width: 46rem; }
.name { font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; font-size: 0.82rem;
  overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 12px 0 0; font-size: 0.9rem; }
nav a { text-decoration: none; overflow-wrap: anywhere; }
nav a:hover { text-decoration: underline; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 12px; padding: 22px 24px 26px;
  margin: 24px 0 0; }
.stats { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 16px 0 4px; padding: 0; }
.stats div { display: flex; flex-direction: column-reverse; }
.stats dd { margin: 0; font-size: 1.5rem; font-weight: 650; line-height: 1.2; letter-spacing: -0.015em; }
.stats dt { color: var(--muted); font-size: 0.82rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 18px 28px;
  margin-top: 12px; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 20px 36px;
  align-items: start; margin-top: 10px; }
.figure { display: block; width: 100%; height: auto; }
.figure text { font-family: inherit; }
.strip { display: flex; height: 22px; border-radius: 5px; overflow: hidden; margin: 12px 0 10px; }
.strip i { display: block; min-width: 1px; }
.key { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 2px; margin-right: 0.55em; }
td:has(> .key) { padding-left: 1.25em; text-indent: -1.25em; }
table { border-collapse: collapse; width: 100%; font-size: 0.875rem; }
th { text-align: left; font-weight: 500; color: var(--muted); font-size: 0.8rem; white-space: nowrap; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
table.narrow { max-width: 42rem; }
.r { text-align: right; white-space: nowrap; }
.muted { color: var(--muted); }
.total td { font-weight: 650; }
td.bar { width: 38%; min-width: 90px; }
.bar div { display: flex; height: 12px; border-radius: 3px; overflow: hidden; }
.bar i { display: block; height: 100%; }
details { margin-top: 10px; }
summary { cursor: pointer; color: var(--blue); font-size: 0.9rem; }
.scroll { overflow-x: auto; }
.kernels { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--cell, 46px), 1fr)); gap: 10px 8px;
  margin-top: 12px; font-size: 0.7rem; color: var(--muted); text-align: center; line-height: 1.25; }
.kernel { display: block; width: 100%; height: auto; border: 1px solid var(--line); background: var(--panel); }
.kernel .p { fill: var(--positive); } .kernel .n { fill: var(--negative); }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); gap: 16px 28px;
  margin-top: 12px; }
.worst .three { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; font-size: 0.75rem;
  color: var(--muted); text-align: center; }
.terms { display: grid; grid-template-columns: 34px 1fr auto; gap: 7px 12px; align-items: center; margin-top: 12px;
  font-size: 0.8rem; max-width: 46rem; }
.terms .stack { display: flex; height: 20px; border-radius: 4px; overflow: hidden; }
.m0 { background: var(--line); } .m1 { background: color-mix(in srgb, var(--blue) 30%, var(--panel)); }
.m2 { background: color-mix(in srgb, var(--blue) 50%, var(--panel)); }
.m3 { background: color-mix(in srgb, var(--blue) 70%, var(--panel)); } .m4 { background: var(--blue); }
.m5 { background: color-mix(in srgb, var(--blue) 55%, var(--ink)); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.8rem; color: var(--muted); margin-top: 8px; }
footer { color: var(--muted); font-size: 0.8rem; margin-top: 28px; }
@media (max-width: 640px) {
  main { padding: 18px 12px 40px; }
  section { padding: 16px 14px 18px; border-radius: 10px; }
  h1 { font-size: 1.45rem; }
  .stats { gap: 12px 28px; }
  .stats dd { font-size: 1.3rem; }
  .folding thead { display: none; }
  .folding tr { display: grid; grid-template-columns: 1fr auto auto auto; gap: 2px 0; padding: 8px 0;
    border-bottom: 1px solid var(--line); }
  .folding tbody tr:last-child { border-bottom: 0; }
  .folding td { padding: 0; border: 0; }
  .folding td.r { padding-left: 14px; }
  .folding td.r:empty { display: none; }
  .folding td.first { grid-area: 1 / 1 / 2 / -1; }
  .folding tr:has(.err:not(:empty)) td.first { grid-area: 1 / 1; }
  .folding td.sub { grid-area: 2 / 1; }
  .folding td.r { grid-row: 2; }
  .folding td.err { grid-area: 1 / 2 / 2 / -1; }
  .folding td.err::before { content: "error "; color: var(--muted); }
  .folding td.bar { grid-area: 3 / 1 / 4 / -1; width: auto; }
}
@media print { section { break-inside: avoid-page; } }
"""
STYLE = COLOURS + RULES
