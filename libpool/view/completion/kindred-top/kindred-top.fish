# fish completion for kindred-top
complete -c kindred-top -f
complete -c kindred-top -n '__fish_is_first_token' -a "(kindred-tail 2>/dev/null | string match -r '^ *[0-9]+(?:/[0-9]+)?' | string trim)"
complete -c kindred-top -l all -d 'all pools of this user'
complete -c kindred-top -l once -d 'print one look, and end'
complete -c kindred-top -l json -d 'with --once: as JSON'
complete -c kindred-top -l stacks -d 'with --once: the stack of each worker'
complete -c kindred-top -l lines -x -a '0 20 100' -d 'with --once: so many of the last lines of the log'
complete -c kindred-top -s h -l help -d 'print the options'
