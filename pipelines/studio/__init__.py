"""`degrade studio`: a page to degrade and restore pictures. Only `page.py` imports Gradio."""
