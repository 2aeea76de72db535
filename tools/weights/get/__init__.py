"""Fetches the published files into ComfyUI's folders: the commands `get` and `addresses`."""
