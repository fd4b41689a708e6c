"""Options that several commands share."""

import click

organisation_option = click.option(
    "--org",
    "organisation",
    envvar="ENTREPOT_ORG",
    help="Slug or id [the only one, or what `entrepot org use` chose].",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)
