"""What the page for lost readers says. sphinx-notfound-page makes it, with absolute addresses.

The file is served for every wrong address, at any depth, so nothing on it may be relative.
"""

from html import escape

PAGE = """\
<h1>This page is not here</h1>
<p>What a gradient remembers is hard to forget. This address, though, is one that the book does not
know. Perhaps a chapter has got another name, or a letter was lost on the way.</p>
<p>Begin again at <a href="{front}">the front page</a>, or go on from here:</p>
<ul>
{links}
</ul>"""


def fill_in(app, pagename, templatename, context, doctree):
    if pagename != app.config.notfound_pagename:
        return

    def address(name):
        return app.config.notfound_urls_prefix + app.builder.get_target_uri(name)

    root = app.config.root_doc
    links = [
        f'<li><a href="{address(name)}">{escape(app.env.titles[name].astext())}</a></li>'
        for name in app.env.toctree_includes.get(root, [])
    ]
    context["title"] = "Page not found"
    context["pageurl"] = None  # this page is nowhere, so no address is the right one
    context["body"] = PAGE.format(front=address(root), links="\n".join(links))


def setup(app):
    app.connect("html-page-context", fill_in, priority=300)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
