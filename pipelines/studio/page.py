"""The page of `degrade studio`: two tabs, in plain Gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .degrade_tab import DegradeTab
from .restore_tab import RestoreTab

CSS = """
footer { opacity: 0.6; }
#compare img, #emerging img { image-rendering: pixelated; }
#emerging img { width: 100%; height: 100%; object-fit: contain; }
.card { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px; }
.card, .card > .row { gap: 8px; }
.card.off { opacity: 0.55; }
.problem { color: #b91c1c; font-weight: 600; overflow-wrap: anywhere; }
.dark .problem { color: #fca5a5; }
.small { font-size: 13px; overflow-wrap: anywhere; }
.curves > div { display: flex; flex-wrap: wrap; gap: 12px; }
.curves figure { margin: 0; width: 240px; max-width: 100%; }
.curves figcaption { font-size: 13px; }
.curves svg text { fill: var(--body-text-color); font-size: 10px; }
.curves ul { display: none; }
.facts table, .facts tr, .facts td { border: none !important; }
.facts td { padding: 2px 12px 2px 0 !important; vertical-align: top; overflow-wrap: anywhere; }
.facts td:first-child { min-width: 8em; opacity: 0.7; }
@media (max-width: 640px) {
  #gallery .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
}
"""
# Fonts of the reader's own machine: the page asks no other host for anything.
APPEARANCE: dict[str, Any] = {
    "theme": gr.themes.Default(
        primary_hue="indigo",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ),
    "css": CSS,
}


def page(folder: Path) -> gr.Blocks:
    """The page. folder: where the pictures of all visitors are kept."""
    with gr.Blocks(title="degrade studio", analytics_enabled=False) as blocks:
        gr.Markdown("# degrade studio")
        with gr.Tab("Degrade"):
            degrade_tab = DegradeTab(folder)
        with gr.Tab("Restore"):
            RestoreTab(degrade_tab)
        degrade_tab.begin_with(blocks)
    return blocks
