# bash completion for kindred-top
_kindred_top() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  case $previous in
    --lines) mapfile -t COMPREPLY < <(compgen -W '0 20 100' -- "$current") ;;
    *)
      if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(kindred-top --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -W "$(kindred-tail 2>/dev/null | grep -oE '^ *[0-9]+(/[0-9]+)?')" -- "$current")
      fi
      ;;
  esac
}
complete -F _kindred_top kindred-top
