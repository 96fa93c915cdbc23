"""Likeness of people in several lights."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from vultus.metrics.identity_similarity import similarity_between_people, similarity_within_people


def test_who_is_the_same_in_all_lights_is_like_nobody_else() -> None:
    features = torch.eye(5)[None] * torch.tensor([1.0, 2.0, 0.1])[:, None, None]
    assert float(similarity_within_people(features)) == pytest.approx(1.0)
    assert float(similarity_between_people(features)) == 0.0


def test_who_is_made_by_the_light_is_like_everybody_else() -> None:
    features = torch.eye(4)[:, None].expand(-1, 3, -1)
    assert float(similarity_within_people(features)) == 0.0
    assert float(similarity_between_people(features)) == 0.0
    same = torch.ones(4, 3, 2)
    assert float(similarity_between_people(same)) == pytest.approx(1.0)


def test_means_are_those_over_all_pairs_of_lights() -> None:
    features = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    own, others = [], []
    for one in range(3):
        for other in range(3):
            if one == other:
                continue
            for person in range(4):
                picture = features[one, person]
                own.append(cosine_similarity(picture, features[other, person], dim=0))
                others.append(cosine_similarity(picture, features[other, person - 1], dim=0))
    found = similarity_within_people(features), similarity_between_people(features)
    assert float(found[0]) == pytest.approx(float(torch.stack(own).mean()), abs=1e-6)
    assert float(found[1]) == pytest.approx(float(torch.stack(others).mean()), abs=1e-6)
