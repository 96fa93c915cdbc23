import numpy as np
import torch

from vultus.data.expression_names import ARKIT_NAMES, expression_name_map


def test_arkit_has_52_distinct_names():
    assert len(set(ARKIT_NAMES)) == 52


def test_map_to_ict_equals_the_matrix_of_the_recorded_sequence(data_dir):
    with np.load(data_dir / "lam_avatar/arkit_sequence.npz") as file:
        names, ict_names = file["names"].tolist(), file["ict_names"].tolist()
        expected = torch.from_numpy(file["arkit_to_ict"])
    matrix, unmapped = expression_name_map(names, ict_names)
    torch.testing.assert_close(matrix, expected)
    assert unmapped == ("tongueOut",)


def test_a_pair_is_averaged_into_a_single_shape():
    matrix, unmapped = expression_name_map(["browInnerUp_L", "browInnerUp_R"], ["browInnerUp"])
    assert matrix.tolist() == [[0.5], [0.5]]
    assert unmapped == ()


def test_mapping_there_and_back_returns_the_weights():
    ict = ["cheekPuff_L", "cheekPuff_R", "eyeBlink_L", "jawLeft"]
    arkit = ["jawLeft", "cheekPuff", "eyeBlinkLeft"]
    weights = torch.tensor([[0.1, 0.7, 0.3]])
    there, _ = expression_name_map(arkit, ict)
    back, _ = expression_name_map(ict, arkit)
    torch.testing.assert_close(weights @ there @ back, weights)


def test_jaw_left_is_not_mistaken_for_one_side_of_a_pair():
    matrix, unmapped = expression_name_map(["jawLeft"], ["jaw", "jawLeft"])
    assert matrix.tolist() == [[0.0, 1.0]]
    assert unmapped == ()
