"""A random forest on single pixels, the reference baseline of every leaderboard."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from spectral_tl_bench.methods import Classifier, PixelModel
from spectral_tl_bench.utils.registry import METHODS


@METHODS.register("pixel_forest")
@dataclass
class PixelForest(PixelModel):
    """A random forest on single pixels' spectra, without a backbone (Breiman, 2001; scikit-learn)."""

    trees: Annotated[int, Field(gt=0)] = 100
    min_samples_leaf: Annotated[int, Field(gt=0)] = 1

    def classifier(self, seed: int) -> Classifier:
        """Build the forest."""
        from sklearn.ensemble import RandomForestClassifier

        forest: Classifier = RandomForestClassifier(
            self.trees, min_samples_leaf=self.min_samples_leaf, random_state=seed
        )
        return forest
