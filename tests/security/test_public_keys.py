"""Ed25519 by published vectors, and JSON Web Key Sets of every form."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jsonio import dump
from orchestrator.security.public_keys import (
    MAX_KEYS,
    NotKeySet,
    UnknownKey,
    read_key_set,
    verify_ed25519,
)
from orchestrator.security.signatures import BadSignature
from tests.support.cases import for_each
from tests.support.strategies import TEXT

#: RFC 8032, section 7.1: public key, message and signature of the tests 1, 2 and 3.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
#: RFC 8037, appendix A.2 and A.4: a public key, what it signed, and the signature.
JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
JWS = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
JWS_SIGNATURE = (
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
KEY = bytes.fromhex(VECTORS[0][0])


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_published_vectors_hold_and_no_change_of_them(
    key: str, message: str, signature: str
) -> None:
    public, said = bytes.fromhex(key), bytes.fromhex(message)
    others = [bytes.fromhex(each) for each, *_ in VECTORS if each != key]

    verify_ed25519([public], message=said, signature=signature)
    verify_ed25519([*others, public], message=said, signature=signature.upper())
    for keys, changed, seal in (
        (others, said, signature),
        ([public], said + b"x", signature),
        ([public], said, signature[:-2] + "01"),
        ([], said, signature),
        ([b"\xff" * 32, b"short"], said, signature),
    ):
        with pytest.raises(UnknownKey):
            verify_ed25519(keys, message=changed, signature=seal)


def test_the_published_key_verifies_what_it_signed() -> None:
    [key] = read_key_set(dump({"keys": [JWK]}))

    signature = urlsafe_b64decode(JWS_SIGNATURE + "==").hex()
    verify_ed25519([key], message=JWS, signature=signature)


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary())
def test_what_a_key_signs_is_verified_through_its_key_set(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    x = urlsafe_b64encode(private.public_key().public_bytes_raw()).decode()

    for text in (x, x.rstrip("=")):
        keys = read_key_set(dump({"keys": [JWK, {**JWK, "x": text, "kid": "2"}]}))
        verify_ed25519(keys, message=message, signature=private.sign(message).hex())


@for_each(
    "signature",
    [None, "", "00", "0" * 126, "0" * 130, "g" * 128, "0 " * 64, " " + "0" * 127, "\u0660" * 128],
)
def test_an_odd_signature_is_malformed_and_blames_no_key(signature: str | None) -> None:
    with pytest.raises(BadSignature) as refusal:
        verify_ed25519([KEY], message=b"", signature=signature)

    assert not isinstance(refusal.value, UnknownKey)


def test_other_keys_of_a_set_are_left_out() -> None:
    others: list[Any] = [
        {"kty": "RSA", "n": "x", "e": "AQAB"},
        {**JWK, "crv": "X25519"},
        {**JWK, "kty": "EC"},
        {**JWK, "x": "11qY"},
        {**JWK, "x": "!"},
        {**JWK, "x": "\u00e9" * 43},
        {**JWK, "x": 7},
        {"kty": "OKP"},
        None,
        [],
        "x",
    ]

    assert read_key_set(dump({"keys": [*others, JWK]})) == (KEY,)
    with pytest.raises(NotKeySet):
        read_key_set(dump({"keys": others}))


def test_few_keys_of_a_set_are_read() -> None:
    assert len(read_key_set(dump({"keys": [JWK] * 1000}))) == MAX_KEYS


_LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | TEXT
_JSON = st.recursive(_LEAVES, lambda x: st.lists(x) | st.dictionaries(TEXT, x), max_leaves=8)


@given(document=st.binary() | _JSON.map(dump) | _JSON.map(lambda value: dump({"keys": value})))
def test_any_other_document_is_no_key_set(document: bytes) -> None:
    with pytest.raises(NotKeySet):
        read_key_set(document)
