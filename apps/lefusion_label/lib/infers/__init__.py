"""What can be asked of the server: drawing a mask, painting lesions."""

from .draw_mask import DrawMask
from .lesion_task import LesionTask
from .paint_lesions import PaintLesions

__all__ = ["DrawMask", "LesionTask", "PaintLesions"]
