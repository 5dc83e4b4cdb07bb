"""A local server with TensorFlow Serving's interfaces, for machines that have no Docker.

From a terminal:

    $ python -m tfllm.serving.preview savedmodels/
"""

from tfllm.serving.preview.serve import serve_preview
from tfllm.serving.preview.settings import PreviewSettings

__all__ = ["PreviewSettings", "serve_preview"]
