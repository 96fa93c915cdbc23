"""Numbers of the studio's surfaces, for the kernels of all backends."""

__all__ = [
    "EYE_GRAZING",
    "EYE_REFLECTANCE",
    "EYE_ROUGHNESS",
    "EYE_SHARPNESS",
    "MAX_BOUNCE_GAIN",
    "MIN_ROUGHNESS",
    "NUM_MAPS",
    "NUM_SURFACE",
    "SPECULAR_FADE",
    "SPECULAR_SCALE",
    "WRAP",
]

NUM_MAPS = 9
"""Linear albedo (3), roughness, specular, scatter, tangent-space normal (3)."""
NUM_SURFACE = 5
"""What is told about the surface of a sample: linear albedo (3), roughness and specular in effect,
which for eyes are not those of the maps."""

# Wrapped diffuse light reaches further around the terminator in red than in blue, as it does in
# skin. Chosen by eye for a scatter of 1.
WRAP = (0.30, 0.12, 0.05)
MIN_ROUGHNESS = 0.3
SPECULAR_SCALE = 0.08
# Below this share of the specular map reflections fade out: cavities and painted shadows.
SPECULAR_FADE = 0.25
# Eyes: a cornea with a smooth coat; its grazing reflection is kept below Schlick's value of 1.
EYE_REFLECTANCE = 0.03
EYE_GRAZING = 0.5
EYE_ROUGHNESS = 0.15
# Width (as exp2(s (cos - 1))) over which visibility is averaged around the mirror direction.
EYE_SHARPNESS = 40.0
MAX_BOUNCE_GAIN = 3.0
