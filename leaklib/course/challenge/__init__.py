"""Capture the image: each student gets a leak of their own, and rebuilds its private picture.

An instructor has a secret and a folder of pictures.  `make_challenge` turns them into a file for
each student and each of the `LEVELS`, and `grade_challenge` scores what comes back.  A student
opens the file by `read_challenge`, builds the network by `model_of`, attacks, and hands in what
`write_answer` wrote.

    leak, facts = challenge.read_challenge("challenge-gradient-ada.safetensors")
    out = attacks.idlg(challenge.model_of(facts), leak, facts.shape)
    challenge.write_answer("answer-gradient-ada.safetensors", out.images[0], out.labels[0])

What a file tells.  It holds the network's architecture and weights, what the client sent, the
shape of the batch, and the `Facts`: the student, the level, the defence and its settings.  It holds
no picture, no label, no file name and no seed.  All files of a level have the same length, apart
from the student's name.  Its two tags tell the instructor, and nobody else, whether the secret and
the pictures are the ones it was made with.

What it does not tell.  Pictures, labels, weights and what a defence draws come from
HMAC-SHA256(secret, student | level | purpose), a stream for each purpose, stretched by SHAKE-256.
PyTorch's generator is not used: on a CPU it keeps 32 bits of its seed, so anyone could try all
seeds, find the noise and subtract it.

What the instructor must see to.  Nobody else may have the pictures: whoever has one can compute its
gradient and compare.  And the secret must be random: the weights are a function of it, so a guess
can be tested.  Students who get the same picture get different windows of it, so that an answer
passed on earns next to nothing; still, more pictures than students are better.

The same secret, student, level and pictures give the same challenge on another machine, up to
rounding in floating-point arithmetic and in decoding the pictures.  Grading needs no more.
"""

from ._file import Facts, read_answer, read_challenge, write_answer
from ._grade import Grade, grade_challenge
from ._levels import LEVELS, Level
from ._make import make_challenge
from ._networks import model_of
from ._pool import Pool, open_pool

__all__ = [
    "LEVELS",
    "Facts",
    "Grade",
    "Level",
    "Pool",
    "grade_challenge",
    "make_challenge",
    "model_of",
    "open_pool",
    "read_answer",
    "read_challenge",
    "write_answer",
]
