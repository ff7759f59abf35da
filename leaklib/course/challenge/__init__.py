"""Capture the image: a leak of each student's own, whose private picture is to be rebuilt.

An instructor has a secret and a folder of pictures.  `make_challenge` turns them into a file for
each student and each of the `LEVELS`, and `grade_challenge` scores what comes back.  A student
opens the file by `read_challenge`, builds the network by `model_of`, attacks, and hands in what
`write_answer` wrote.

    leak, facts = challenge.read_challenge("challenge-gradient-ada.safetensors")
    out = attacks.idlg(challenge.model_of(facts), leak, facts.shape)
    challenge.write_answer("answer-gradient-ada.safetensors", out.images[0], out.labels[0])

What is known.  The file holds the network's architecture and weights, what the client sent, the
shape of the batch, and what is said in `Facts`: the student, the level, the defence and its
numbers.  It holds no picture, no label, no name of a file and no seed.  All files of a level are
equally long, but for the student's name.  Its two tags tell the instructor alone whether secret and
folder are those that it was made with.

What is not.  Which pictures, which labels, the weights, and what a defence draws come out of
HMAC-SHA256(secret, student | level | purpose), each purpose by itself, stretched by SHAKE-256.
PyTorch's generator is not used: on a CPU it keeps 32 bits of its seed, so that noise drawn from it
could be found by trying all seeds, and then be subtracted.

What the instructor has to see to.  The pictures must be nobody's but the instructor's: whoever has
a picture can compute its gradient and compare.  And the secret must be random, for the weights are
a function of it, by which a guess of the secret can be tested.  Students with the same picture get
another window of it each, so that an answer handed on earns next to nothing; but more pictures than
students are better.

The same secret, student, level and pictures give the same challenge on another machine, up to the
rounding of floating-point numbers and of what decodes the pictures; grading needs no more.
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
