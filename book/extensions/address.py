"""The site's address, out of the one setting: ``repository.url`` in ``_config.yml``.

Jupyter Book hands that setting to the theme as ``repository_url``. From it come the canonical
links, Open Graph's addresses, the sitemap and the page for lost readers. A site that is published
elsewhere than on GitHub Pages says where in ``html.baseurl``.
"""

import re
from urllib.parse import urlsplit

from sphinx.errors import ConfigError


def pages_address(repository):
    """Where GitHub Pages publishes a repository, or None for one that is not on GitHub."""
    parts = urlsplit(repository)
    owner, _, name = parts.path.strip("/").partition("/")
    if parts.hostname != "github.com" or not name:
        return None
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def set_addresses(app, config):
    repository = config.html_theme_options.get("repository_url", "")
    site = config.html_baseurl or pages_address(repository)
    if not site:
        raise ConfigError(
            f"repository.url is {repository!r}, which is not on GitHub: "
            "say in html.baseurl of _config.yml where the site is published"
        )
    site = site.removesuffix("/") + "/"
    config.html_baseurl = config.ogp_site_url = site
    config.notfound_urls_prefix = urlsplit(site).path
    # a stand-in, or a private repository, answers nobody
    config.linkcheck_ignore = [*config.linkcheck_ignore, re.escape(repository)]


def setup(app):
    # before the extensions that read these settings look at them
    app.connect("config-inited", set_addresses, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
