from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.jstokens import AHEAD, BEHIND
from tests.rewriting import CASES, on_the_server
from tests.unit.rewrite.pieces import HOST, PREFIX, in_pieces, rule, whole

ADDRESS = b"globalThis.__hatchway("
GUARDED = b"(globalThis.__hatchway||(_=>_))("
IMPORT = b"globalThis.__hatchwayImport(u=>import(u),"
CODE = b"(globalThis.__hatchwayCode||(_=>_))("
GUARDED_IMPORT = b"(globalThis.__hatchwayImport||((f,u)=>f(u)))(u=>import(u),"


def rewriter() -> JavaScriptRewriter:
    return JavaScriptRewriter(rule())


def rewritten(text: str | bytes) -> bytes:
    return whole(rewriter, text.encode() if isinstance(text, str) else text)


def wanted(text: str) -> bytes:
    """Return a script with its short forms replaced by the inserted code.

    P: the prefix. H(, G(: the address function, without and with a default. I(, J(: the same for the import function.
    C(: the function for code in texts.
    """
    found = text.encode().replace(b"P/", PREFIX + b"/").replace(b"H(", ADDRESS).replace(b"G(", GUARDED)
    return found.replace(b"J(", GUARDED_IMPORT).replace(b"I(", IMPORT).replace(b"C(", CODE)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # Modules.
        ('import "/a.js"', 'import "P/a.js"'),
        ("import'/a.js'", "import'P/a.js'"),
        ('import x,{y as z} from "/a.js";', 'import x,{y as z} from "P/a.js";'),
        ('import*as n from"/a.js"', 'import*as n from"P/a.js"'),
        ('export*from"/a.js";export{x}from\n"/b.js"', 'export*from"P/a.js";export{x}from\n"P/b.js"'),
        ('import("/a.js")', 'import("P/a.js")'),
        ('import(/* c */ "/a.js").then(f)', 'I(/* c */ "/a.js").then(f)'),
        ("x=import(`/a/${b}.js`)", "x=J(`/a/${b}.js`)"),
        ("const m = await import(url)", "const m = await J(url)"),
        ("a\nimport(url)", "a\nI(url)"),
        # Addresses.
        ("x=location.pathname", "x=G(location).pathname"),
        ("location.href='/x'", "H(location).href='/x'"),
        ("a = b\nlocation.href = c", "a = b\nH(location).href = c"),
        ("if(a)location.assign(b)", "if(a)H(location).assign(b)"),
        ("else location.replace(b)", "else G(location).replace(b)"),
        ("return window.location.pathname", "return G(window.location).pathname"),
        ("return\nlocation.pathname", "return\nH(location).pathname"),
        ("const {pathname:e,search:t} = e.location;", "const {pathname:e,search:t} = G(e.location);"),
        ("let{pathname:e,hash:n}=t;", "let{pathname:e,hash:n}=G(t);"),
        ("const{pathname}=r", "const{pathname}=G(r)"),
        ("f(a.href,t.pathname)", "f(G(a).href,G(t).pathname)"),
        ("x=a?.href", "x=G(a)?.href"),
        ("x=window?.location?.href", "x=G(window?.location)?.href"),
        ("x=f(window.location)", "x=f(G(window.location))"),
        ("let { pathname, search } = masked || w.location;", "let { pathname, search } = masked || G(w.location);"),
        ("x=w2.location.href+1.5.href", "x=G(w2.location).href+1.5.href"),
        ("x=[a=b.location,c]", "x=[a=G(b.location),c]"),
        ("x=window.location[n];location['href']=y", "x=G(window.location)[n];G(location)['href']=y"),
        ('b=new URL(".", location).pathname', 'b=new URL(".", G(location)).pathname'),
        ("window.location='/x'", "H(window.location).href='/x'"),
        ("`${location.pathname}${`${b.href}`}`", "`${G(location).pathname}${`${G(b).href}`}`"),
        ("x=[...location.pathname]", "x=[...H(location).pathname]"),
        ("this.a.location.pathname", "H(this.a.location).pathname"),
        ("$(location).attr('href')", "$(G(location)).attr('href')"),
        ("new Foo(location);return /'/.test(location)", "new Foo(G(location));return /'/.test(G(location))"),
        (
            "f().location.href+a[0].location?.pathname",
            "f().location.__hatchwaySelf.href+a[0].location?.__hatchwaySelf.pathname",
        ),
        # Text that is evaluated.
        ("eval('location.href')", "eval(C('location.href'))"),
        ('{eval("a\\"b" + c)}', '{eval(C("a\\"b" + c))}'),
        ("eval(lib.ts('x'));", "eval(C(lib.ts('x')));"),
        ("return eval(code)", "return eval(C(code))"),
        ("x=(0,eval)(f(y).z)", "x=(0,eval)(C(f(y).z))"),
        ("window.eval(x)", "window.eval(C(x))"),
    ],
)
def test_code_that_is_changed(source: str, expected: str) -> None:
    assert rewritten(source) == wanted(expected)


@pytest.mark.parametrize(
    "source",
    [
        # Relative URLs, and URLs of other hosts.
        'import "./a.js"; import x from "react"; import("../b.js"); export * from "https://cdn.example.com/x.js"',
        'import data from "//cdn.example.com/x.js"',
        # Texts and comments, not code.
        '"import(x) location.href"',
        "'location.href'",
        "'it\\'s location.href'",
        "// location.href\n",
        "/* location.href import x from '/a' */",
        "`location.href import('/a')`",
        "x=/location.href'/.test(y)",
        "x=/[/'\"]location.href/g",
        "return /'/.test(places)",
        # The same words with another meaning.
        "const o={location:1,pathname:2,href:3,import:4,from:5}",
        "function f(location,pathname){}",
        "mylocation.href2 = $location.hrefs",
        "o.import(x)",
        "class A{import(x){return 1}static import(y){}}",
        "Array.from('/a')",
        "new location.href()",
        "delete a.href",
        "location.reload();location.hash='x';y=location.origin",
        "foo().location.href=1;foo().location.assign(1);foo().location=1",
        "a[0].href",
        "a?.b.href",
        "this.#location.href",
        "import.meta.href",
        "super.location.href",
        "location\n=1",
        "[a.location]=b;({c:this.location,d}=e);[a,b.location]=f",
        "(a.location)=b",
        "a.location=b",
        # Names of parameters.
        "function f(location){};class A{f(location){}};g=(location)=>1;h=async(location)=>1;try{}catch(location){}",
        "function f(a,location) {}",
        # These calls of eval do not evaluate a text, or are not the global eval.
        "class A{eval(x){}};function eval(x){};a.eval(b);eval();f(eval)",
        "let {pathname} = useLocation()",
        "let {pathname} = a ? b : c",
        "for (const {pathname} of links) {}",
        "({pathname}) => 1",
        '{"href": "/a", "location": {"pathname": "/b"}}',
        "import(x, {with: {type: 'json'}})",
        "import()",
    ],
)
def test_code_that_is_not_changed(source: str) -> None:
    assert rewritten(source) == source.encode()


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_reads_of_addresses(source: str, expected: str) -> None:
    assert rewritten(source).decode() == on_the_server(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a=b/c;x='/';location.href", "a=b/c;x='/';G(location).href"),
        ("a=(b+c)/d;e='/';f.href", "a=(b+c)/d;e='/';G(f).href"),
        ("if(a)/'/.test(b);f.href", "if(a)/'/.test(b);G(f).href"),
        ("a=b[0]/c/d;x=f.href", "a=b[0]/c/d;x=G(f).href"),
        ("i++/2;'/';f.href", "i++/2;'/';G(f).href"),
        ("}/'/.test(b);f.href", "}/'/.test(b);G(f).href"),
        ("typeof/'/;f.href", "typeof/'/;G(f).href"),
        ("a.return/b;'/';f.href", "a.return/b;'/';G(f).href"),
        ("a/*'*//b/'/';f.href", "a/*'*//b/'/';G(f).href"),
        ("x=`${{a:`}`}}`;f.href", "x=`${{a:`}`}}`;G(f).href"),
    ],
)
def test_slashes_and_quotes(source: str, expected: str) -> None:
    assert rewritten(source) == wanted(expected)


@pytest.mark.parametrize(
    "text", ["it's no script\nlocation.href\n", '<p>"\n<script>location.href', 'a"b\rlocation.href']
)
def test_other_content_is_not_changed(text: str) -> None:
    assert rewritten(text) == text.encode()


def test_own_addresses() -> None:
    assert rewritten(b'import "http://%b/a.js"' % HOST) == b'import "%b/a.js"' % PREFIX


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("new " + " " * 500 + "location", "new " + " " * 500 + "location"),
        ("x=a+" + " " * 500 + "location", "x=a+" + " " * 500 + "G(location)"),
        ("w//\neval('x')", "w//\neval('x')"),
        ("w;/* a */ // b\n /* c */eval('x')", "w;/* a */ // b\n /* c */eval(C('x'))"),
        ("x=`${a}/${b[0]}`/c;y='/';location.href", "x=`${a}/${b[0]}`/c;y='/';G(location).href"),
        ("f(`${a}`,{location})", "f(`${a}`,{location:G(location)})"),
        ("x=(a+b)/2/c.d,y=e/w/t;z=/['/]/g.test(location)", "x=(a+b)/2/c.d,y=e/w/t;z=/['/]/g.test(G(location))"),
    ],
)
def test_the_code_before_a_word_is_found_at_any_distance(source: str, expected: str) -> None:
    assert rewritten(source) == wanted(expected)


def test_a_dot_in_a_comment_does_not_belong_to_the_next_word() -> None:
    assert rewritten("// see foo.\nlocation.href=1") == wanted("// see foo.\nH(location).href=1")


FRAGMENTS = st.sampled_from(
    [
        "location", ".href", ".pathname", "import", "(", ")", "{", "}", "'/a'", '"/b"', "`", "${", "/", "//", "/*",
        "*/", "\n", " ", "=", "a", ".b", "?.", "from ", "return ", "const {pathname}=", "window", ";", ",", "\\", "'",
        '"', "[", "]", "++", "x" * 200, "new ", "é", "…", "\r\n", "if(a)", "export * from '/c'", "eval",
        "eval('x')", "f(location)",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=40), st.lists(st.integers(0, 10**6), max_size=8), st.integers(0, 3 * AHEAD))
def test_pieces_make_no_difference(parts: list[str], cuts: list[int], pad: int) -> None:
    text = ("".join(parts[: len(parts) // 2]) + " " * pad + "".join(parts[len(parts) // 2 :])).encode()
    text = text + b" " * BEHIND + text
    assert in_pieces(rewriter, text, cuts) == whole(rewriter, text)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=60))
def test_without_the_insertions_the_result_is_the_source(parts: list[str]) -> None:
    """Only text is inserted, so its removal gives the source."""
    text = "".join(parts).encode()
    plain = rewritten(text)
    for helper in (GUARDED_IMPORT, IMPORT):
        plain = plain.replace(helper, b"import(")
    for asked, source in ((b"?.__hatchwaySelf.", b"?."), (b"?.__hatchwaySelf", b""), (b".__hatchwaySelf", b"")):
        plain = plain.replace(asked, source)
    plain = plain.replace(CODE, b"").replace(b"__hatchwayLocation", b"location")
    assert b"".join(plain.replace(GUARDED, b"").replace(ADDRESS, b"").replace(PREFIX, b"").split()).replace(
        b")", b""
    ).replace(b".href", b"") == b"".join(text.split()).replace(b")", b"").replace(b".href", b"")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes(text: bytes, cuts: list[int]) -> None:
    assert in_pieces(rewriter, text, cuts) == whole(rewriter, text)


def test_long_strings_and_comments_are_not_buffered() -> None:
    transform = rewriter()
    transform.feed(b"x='")
    kept = 0
    for _ in range(64):
        kept += 65536 - len(transform.feed(b"a" * 65536))
    assert kept < 8192
    assert transform.feed(b"';" + b" " * 4096 + b"y=location.href") + transform.finish()
