"""Answers to log-in challenges, against the examples of the standards."""

import pytest

from edge.digest import answer, choice, parse_challenge

RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC2617 = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9"'


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_examples_of_rfc_7616(algorithm, response):
    challenge = parse_challenge(RFC7616.replace("{algorithm}", algorithm))
    nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    said = answer(challenge, "Mufasa", "Circle of Life", "GET", "/dir/index.html", nonce)
    assert f'response="{response}"' in said
    assert f"algorithm={algorithm}" in said
    assert 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in said
    assert "qop=auth, nc=00000001" in said


def test_digest_without_qop_as_old_cameras_want_it():
    said = answer(parse_challenge(RFC2617), "Mufasa", "Circle Of Life", "GET", "/dir/index.html")
    assert 'response="670fd8c2df070c60b045671b8b24ff02"' in said
    assert "qop" not in said
    assert "algorithm" not in said


def test_basic_in_utf8():
    assert answer(parse_challenge('Basic realm="x"'), "Aladdin", "open sesame", "GET", "/") == (
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    )
    assert answer(parse_challenge('Basic realm="x"'), "ü", "ß", "GET", "/") == "Basic w7w6w58="


def test_session_variant_differs():
    plain = parse_challenge(RFC7616.replace("{algorithm}", "MD5"))
    session = parse_challenge(RFC7616.replace("{algorithm}", "MD5-sess"))
    assert session.known()
    assert answer(plain, "a", "b", "GET", "/", "n") != answer(session, "a", "b", "GET", "/", "n").replace("-sess", "")


def test_quotes_are_escaped():
    said = answer(parse_challenge(r'Digest realm="a \"b\"", nonce="n"'), 'me "I"', "p", "GET", "/")
    assert r'username="me \"I\""' in said
    assert r'realm="a \"b\""' in said


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ('Basic realm="x"', True),
        ('Digest realm="x", nonce="y"', True),
        ('Digest realm="x", nonce="y", algorithm=sha-256', True),
        ('Digest realm="x", nonce="y", algorithm=SHA-512-256', False),
        ("Bearer", False),
        ("", False),
    ],
)
def test_what_can_be_answered(header, known):
    assert parse_challenge(header).known() is known


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["Basic", 'Digest realm="x"'], 1),
        (["Bearer", "Basic"], 1),
        (['Digest algorithm="SHA-512"', "Digest algorithm=SHA-256", "Digest"], 1),
        (["Digest", "Digest algorithm=SHA-256"], 0),
        (["Bearer"], None),
        ([], None),
    ],
)
def test_the_one_to_answer(offered, taken):
    challenges = [parse_challenge(header) for header in offered]
    assert choice(challenges) is (None if taken is None else challenges[taken])
