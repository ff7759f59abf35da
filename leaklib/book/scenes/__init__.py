"""What the pictures that react show: plain functions of what the reader moves.

Each returns a `plots.Picture`, whose `data` are the numbers that it shows.  What several positions
of a slider share is computed once, for all of them in one batch, and kept.
"""

from .chapter_1 import CONCENTRATIONS, EPOCHS, local_epochs
from .chapter_2 import BATCH_SIZES, mixed_rows, noisy_linear
from .chapter_3 import NETWORKS, batch_rules, bias_gradient
from .chapter_4 import HALF_WIDTHS, NOISE, initialization, noisy_gradient
from .chapter_5 import PRUNED, arm, digit_leaks, idlg_start, pruned_gradient
from .chapter_6 import (
    CLEAR_TO_NOISY,
    PIXELS,
    WIDTHS,
    cats_and_dogs,
    count_and_solve,
    solved_or_matched,
)
from .chapter_7 import (
    ATTACKS,
    DEEPER_NETWORKS,
    ROUNDS,
    STATES,
    attacked,
    checkpoints,
    decibels,
    deeper,
    training,
    victims,
)
from .chapter_8 import (
    BLEND_STARTS,
    MINI_BATCHES,
    MOMENTS,
    blended_sets,
    blending,
    mini_batch,
)
from .chapter_9 import (
    FIRST_K,
    LEARNING_RATES,
    dlm_from,
    endings,
    face,
    first_k,
)
from .chapter_10 import (
    NORMS,
    TINY_RATES,
    divided,
    norm_and_rate,
    sent_at_tiny_rates,
)
from .chapter_11 import (
    LOCAL_ATTACKS,
    LOCAL_RATES,
    LOCAL_STEPS,
    after_steps,
    coffee,
    local_steps,
    middles,
)
from .chapter_12 import (
    KNOWING,
    SCALE,
    SIGMAS,
    STOPS,
    portraits,
    through_noise,
    under_noise,
    under_the_bound,
)
from .chapter_13 import (
    BITS,
    DIGIT_SHARES,
    PRUNED_SHARES,
    counted,
    likeness,
    pruned,
    pruned_photos,
    quantized,
    quantized_photos,
)
from .chapter_14 import MASKS, OBFUSCATIONS, masked_faces, obfuscated, ssim_behind
from .chapter_15 import (
    KEY_HOLDERS,
    LOCK_EVALUATIONS,
    LOCKS,
    MEAN_GAIN,
    lock_opened,
    locked,
    unlocked,
)
from .chapter_16 import (
    ATTACKERS,
    FAILS,
    STRENGTHS,
    TRIED,
    TWO_SCORES,
    accuracy_with,
    both_attackers,
    every_defense,
    families,
    likeness_of,
    outcomes,
    thresholds,
    tried_messages,
    tried_photos,
    tried_sets,
    two_attackers,
)
from .chapter_17 import (
    JUDGES,
    LEAKAGES,
    front,
    judged_sets,
    pareto,
    trade_offs,
    two_judges,
    where_integers_lie,
)
from .how_fast import cost
from .paper_vs_here import (
    RECOVERED,
    SETS,
    fading,
    learning_rates,
    starts_and_solvers,
    steps_fade,
)

__all__ = [
    "CONCENTRATIONS", "EPOCHS", "local_epochs",
    "BATCH_SIZES", "mixed_rows", "noisy_linear",
    "NETWORKS", "batch_rules", "bias_gradient",
    "HALF_WIDTHS", "NOISE", "initialization", "noisy_gradient",
    "PRUNED", "arm", "digit_leaks", "idlg_start", "pruned_gradient",
    "CLEAR_TO_NOISY", "PIXELS", "WIDTHS", "cats_and_dogs", "count_and_solve",
    "solved_or_matched",
    "ATTACKS", "DEEPER_NETWORKS", "ROUNDS", "STATES", "attacked", "checkpoints", "decibels",
    "deeper", "training", "victims",
    "BLEND_STARTS", "MINI_BATCHES", "MOMENTS", "blended_sets", "blending", "mini_batch",
    "FIRST_K", "LEARNING_RATES", "dlm_from", "endings", "face", "first_k",
    "NORMS", "TINY_RATES", "divided", "norm_and_rate", "sent_at_tiny_rates",
    "LOCAL_ATTACKS", "LOCAL_RATES", "LOCAL_STEPS", "after_steps", "coffee", "local_steps",
    "middles",
    "KNOWING", "SCALE", "SIGMAS", "STOPS", "portraits", "through_noise",
    "under_noise", "under_the_bound",
    "BITS", "DIGIT_SHARES", "PRUNED_SHARES", "counted", "likeness", "pruned", "pruned_photos",
    "quantized", "quantized_photos",
    "MASKS", "OBFUSCATIONS", "masked_faces", "obfuscated", "ssim_behind",
    "KEY_HOLDERS", "LOCK_EVALUATIONS", "LOCKS", "MEAN_GAIN", "lock_opened", "locked",
    "unlocked",
    "ATTACKERS", "FAILS", "STRENGTHS", "TRIED", "TWO_SCORES", "accuracy_with", "both_attackers",
    "every_defense", "families", "likeness_of", "outcomes", "thresholds", "tried_messages",
    "tried_photos", "tried_sets", "two_attackers",
    "JUDGES", "LEAKAGES", "front", "judged_sets", "pareto", "trade_offs", "two_judges",
    "where_integers_lie",
    "cost",
    "RECOVERED", "SETS", "fading", "learning_rates", "starts_and_solvers", "steps_fade",
]  # fmt: skip
