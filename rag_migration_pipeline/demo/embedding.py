"""The demo's embedding: hashed TF-IDF, projected at random to 384 dimensions, from numpy and hashes alone.

Belongs here: words, their weights, and vectors. Does not belong here: where texts come from (``corpus``) and where
vectors go (``fill``).

Each word owns a direction of 384 signs, its BLAKE2b hash; a text is the sum of its words' directions, weighted by
TF-IDF. Directions of different words are nearly orthogonal (random projection), so the inner product of two texts is
about that of their TF-IDF vectors, with an error of about 1/sqrt(384) of their lengths. Vectors are not normalised:
their length is the text's TF-IDF mass, so that a migration that loses lengths is seen.

The same texts give the same bits on every machine: hashes do not depend on PYTHONHASHSEED, weights are whole multiples
of 1/1024, and sums of integers do not depend on their order.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DIMENSION = 384
WEIGHT_STEPS = 1_024

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_NO_WORDS = {"": 1}


@dataclass(frozen=True, slots=True)
class HashedTfidf:
    """An embedding that knows how rare each word is in the texts it was fitted to.

    Attributes:
        rarity: Inverse document frequency of each known word, in steps of 1/1024, at least one step.
        unknown: The same for words that were not seen.
    """

    rarity: dict[str, int]
    unknown: int

    @classmethod
    def fit(cls, texts: Iterable[str]) -> "HashedTfidf":
        """Count in how many of the texts each word occurs."""
        found: Counter[str] = Counter()
        n_texts = 0
        for text in texts:
            found.update(count_words(text).keys())
            n_texts += 1
        return cls(
            rarity={word: _to_steps(math.log((1 + n_texts) / n_found)) for word, n_found in found.items()},
            unknown=_to_steps(math.log(1 + n_texts)),
        )

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: Any texts; one without words gets a short vector of its own.

        Returns:
            Array of shape (len(texts), 384), float32, no row zero, lengths as the texts' TF-IDF mass.
        """
        counts = [count_words(text) for text in texts]
        row_of = {word: row for row, word in enumerate(dict.fromkeys(word for words in counts for word in words))}
        directions = _hash_directions(row_of)
        sums = np.zeros((len(texts), DIMENSION), dtype=np.int64)
        for position, words in enumerate(counts):
            rows = np.fromiter((row_of[word] for word in words), dtype=np.intp, count=len(words))
            weights = np.fromiter((self._weigh(*item) for item in words.items()), dtype=np.int64, count=len(words))
            sums[position] = weights @ directions[rows]
        return (sums / (WEIGHT_STEPS * math.sqrt(DIMENSION))).astype(np.float32)

    def _weigh(self, word: str, n_uses: int) -> int:
        return max(1, round((1 + math.log(n_uses)) * self.rarity.get(word, self.unknown)))


def count_words(text: str) -> dict[str, int]:
    """Count the words of a text, in lower case, with CamelCase and snake_case taken apart."""
    words = _WORD.findall(_HUMP.sub(" ", text).lower())
    return dict(Counter(words)) if words else dict(_NO_WORDS)


def _to_steps(weight: float) -> int:
    """Round to whole steps of 1/1024, so that the last bit of a machine's logarithm cannot matter."""
    return max(1, round(weight * WEIGHT_STEPS))


def _hash_directions(words: Iterable[str]) -> npt.NDArray[np.int8]:
    """Return one row of 384 signs per word, shape (n_words, 384), int8: 48 bytes of BLAKE2b, bit by bit."""
    digests = b"".join(hashlib.blake2b(word.encode(), digest_size=DIMENSION // 8).digest() for word in words)
    bits = np.unpackbits(np.frombuffer(digests, dtype=np.uint8)).reshape(-1, DIMENSION)
    return (bits.astype(np.int8) * 2 - 1).astype(np.int8)
