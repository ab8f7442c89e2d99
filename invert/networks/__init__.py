"""Networks of published denoisers in plain torch, with the tensor names of their files."""
