"""`entrepot completion`: what makes a shell complete our commands."""

import click
from click.shell_completion import get_completion_class

from entrepot.cli.messages import say

_VARIABLE = "_ENTREPOT_COMPLETE"
# How each shell takes the script for good.
_INSTALL = {
    "bash": "entrepot completion bash > ~/.local/share/bash-completion/completions/entrepot",
    "zsh": "entrepot completion zsh > ~/.zfunc/_entrepot  # with fpath+=~/.zfunc before compinit",
    "fish": "entrepot completion fish > ~/.config/fish/completions/entrepot.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    known = get_completion_class(shell)
    if known is None:
        raise click.BadParameter(f"click completes nothing in {shell}")
    click.echo(known(context.find_root().command, {}, "entrepot", _VARIABLE).source())
    say("to install it", _INSTALL[shell])
