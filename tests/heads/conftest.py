from __future__ import annotations

import pytest

from vultus.heads.ict import IctHead


@pytest.fixture(scope="session")
def ict_light(data_dir):
    return IctHead.from_file(data_dir / "ict_face" / "ict_face_light.npz")


@pytest.fixture(scope="session")
def ict_full(data_dir):
    return IctHead.from_file(data_dir / "ict_face" / "ict_face_model.npz")
