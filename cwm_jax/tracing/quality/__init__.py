"""What keeps a corpus of traces good: each part says of one program or trace whether, and why, it should go."""

from cwm_jax.tracing.quality.contamination import Benchmark, Decontamination, decontamination, is_swe_bench
from cwm_jax.tracing.quality.determinism import Difference, difference
from cwm_jax.tracing.quality.duplicates import NearDuplicates, exact_name, smallest_keys, stays
from cwm_jax.tracing.quality.privacy import Privacy

__all__ = [
    "Benchmark",
    "Decontamination",
    "Difference",
    "NearDuplicates",
    "Privacy",
    "decontamination",
    "difference",
    "exact_name",
    "is_swe_bench",
    "smallest_keys",
    "stays",
]
