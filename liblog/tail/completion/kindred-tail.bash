# bash completion for kindred-tail
_kindred_tail() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  case $previous in
    -l | --level | --set-level) mapfile -t COMPREPLY < <(compgen -W 'trace debug info warn error critical off' -- "$current") ;;
    -S | --since) mapfile -t COMPREPLY < <(compgen -W 'today yesterday' -- "$current") ;;
    -n | --lines | --last) mapfile -t COMPREPLY < <(compgen -W 'all 10 100' -- "$current") ;;
    -w | --worker) mapfile -t COMPREPLY < <(compgen -W 'parent 0 1 2 3' -- "$current") ;;
    --color) mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$current") ;;
    -t | --task | --logger | --node | --text | --pattern) COMPREPLY=() ;;
    *)
      if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(kindred-tail --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -W "$(kindred-tail 2>/dev/null | grep -oE '^ *[0-9]+(/[0-9]+)?')" -- "$current")
      fi
      ;;
  esac
}
complete -F _kindred_tail kindred-tail
