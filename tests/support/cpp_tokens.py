"""The words of a C++ source, and what a pair of braces belongs to: for checks that read declarations without a compiler."""
import re

TOKEN = re.compile(r"""(?P<skip>//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+')
  |(?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)|(?P<word>[A-Za-z_]\w*)|(?P<number>\d[\w'.]*)|(?P<op>&&|\|\||::|->|\S)""", re.X | re.S | re.M)


def tokens_of(text):
    found, line, at = [], 1, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if match.lastgroup in ("skip", "d"):
            found.append(('""', line)) if match.group()[0] not in "/" else None
        elif match.lastgroup != "directive":
            found.append((match.group(), line))
    return found


def without_templates(head):
    """The words of a declaration without what stands between < and > of template arguments."""
    kept, depth = [], 0
    for i, word in enumerate(head):
        if word == "<" and i > 0 and (re.match(r"\w", head[i - 1]) or depth):
            depth += 1
        elif word == ">" and depth:
            depth -= 1
        elif not depth:
            kept.append(word)
    return kept


def closing(tokens, at):
    depth = 0
    for i in range(at, len(tokens)):
        depth += {"{": 1, "}": -1}.get(tokens[i][0], 0)
        if depth == 0:
            return i
    return len(tokens) - 1


def is_initializer(head):
    """Is the { after these words one of a value, not of a body?"""
    plain = without_templates(head)
    if not plain or plain[-1] in ("=", ",", "(", "return"):
        return bool(plain)
    if "(" not in plain:
        return True
    # A constructor's list: NAME(...) : member{...}, member{...} {
    return ":" in plain[plain.index("("):] and plain[-1] not in (")", "}", "const", "noexcept", "override")


def name_of(plain):
    plain = list(plain)
    while "__attribute__" in plain:
        begin = end = plain.index("__attribute__")
        depth = 0
        while end + 1 < len(plain) and (depth or end == begin):
            end += 1
            depth += {"(": 1, ")": -1}.get(plain[end], 0)
        del plain[begin:end + 1]
    before = plain[: plain.index("(")] if "(" in plain else plain
    name = []
    for word in reversed(before):
        if re.match(r"[\w~]", word) and (not name or name[-1] in ("::", "~")) or word in ("::", "~"):
            name.append(word)
        else:
            break
    return "".join(reversed(name)) or " ".join(before[-3:])
