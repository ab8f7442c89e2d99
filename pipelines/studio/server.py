"""Serves the page of `degrade studio` from a temporary folder, without telemetry."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
import threading
import webbrowser
from pathlib import Path
from urllib.parse import quote, urlencode

from .. import atomic
from ..console import echo
from . import notes
from .workspace import MOST_BYTES

# Read by Gradio when it is imported, and by huggingface_hub, which it imports.
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def serve(host: str, port: int | None, browser: bool, op: str = "") -> None:
    """Serve the page until Ctrl-C. Everything is written to a folder that is removed then.

    op: the text of the chain with which the page begins.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("degrade studio needs Gradio; run pip install 'degrade[studio]'")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    signal.signal(signal.SIGINT, lambda number, frame: stopped.set())
    with tempfile.TemporaryDirectory(prefix="degrade-studio-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ |= {**QUIET, "GRADIO_TEMP_DIR": str(folder / "gradio")}
        tempfile.tempdir = name  # uploads are written there, too
        notes.collect()
        atomic.forgo_durability()
        from .page import APPEARANCE, page
        from .restoring import cancel_all

        demo = page(folder)
        _, address, _ = demo.launch(
            server_name=host,
            server_port=port,
            inbrowser=False,  # it would open the page without the chain
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            max_file_size=MOST_BYTES,
            allowed_paths=[],
            footer_links=["settings"],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            **APPEARANCE,
        )
        if op:
            address = f"{address}?{urlencode({'op': op}, quote_via=quote)}"
        echo(f"degrade studio is at {address} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        stopped.wait()
        cancel_all()
        demo.close(verbose=False)
        tempfile.tempdir = None
