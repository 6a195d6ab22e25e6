# bash completion for kindred-view
_kindred_view() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  case $previous in
    --listen) mapfile -t COMPREPLY < <(compgen -W '127.0.0.1:0 127.0.0.1:8080' -- "$current") ;;
    --token-file) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    *)
      if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(kindred-view --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -W "$(kindred-tail 2>/dev/null | grep -oE '^ *[0-9]+(/[0-9]+)?')" -- "$current")
      fi
      ;;
  esac
}
complete -F _kindred_view kindred-view
