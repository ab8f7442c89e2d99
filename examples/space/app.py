"""The studio as a Space of huggingface.co. `python app.py` serves it at port 7860."""

import os

from pipelines.studio.server import serve

ALL_ADDRESSES = "0.0.0.0"  # a Space is reached from outside of its container
PORT = 7860  # where a Space is expected to listen

if __name__ == "__main__":
    serve(ALL_ADDRESSES, int(os.environ.get("PORT", PORT)), browser=False)
