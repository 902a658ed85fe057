"""Whether a training shows things as large as its model will see them."""

from __future__ import annotations

from statistics import median

from rt_segmentation.files import spread
from rt_segmentation.training.data import TrainingSet
from rt_segmentation.training.recipe import Recipe

LOOKED_AT = 9
"""Number of frames, evenly spread, whose median height counts."""


def scale_note(recipe: Recipe, frames: TrainingSet) -> str:
    """A sentence where no crop has the scale at which the model sees the frames; '' where some have.

    Args:
        recipe: of the training.
        frames: its own, to train on.
    """
    crop = recipe.augmentation
    if crop.fit:
        return ""
    height = median(frames.frame(index).labels.shape[0] for index in spread(range(len(frames)), LOOKED_AT))
    seen = recipe.height / height
    if crop.min_scale <= seen <= crop.max_scale:
        return ""
    # As much smaller and larger as the recipe's, around what the model sees.
    low, high = min(crop.min_scale, 1) * seen, max(crop.max_scale, 1) * seen
    resizes = (
        ""
        if recipe.resize_frames
        else f"resize_frames: true, for which scales begin at {recipe.height} px, or "
    )
    return (
        f"the frames are {height:g} px high, and the model sees them {recipe.height} px high, at a scale of"
        f" {seen:.2g}; the augmentation's min_scale {crop.min_scale:g} to max_scale {crop.max_scale:g} never"
        f" shows that. Give the recipe {resizes}min_scale: {low:.2g} and max_scale: {high:.2g}"
    )
