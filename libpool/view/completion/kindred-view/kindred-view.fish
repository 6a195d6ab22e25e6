# fish completion for kindred-view
complete -c kindred-view -f
complete -c kindred-view -n '__fish_is_first_token' -a "(kindred-tail 2>/dev/null | string match -r '^ *[0-9]+(?:/[0-9]+)?' | string trim)"
complete -c kindred-view -l all -d 'all pools of this user, also those to come'
complete -c kindred-view -l listen -x -a '127.0.0.1:0 127.0.0.1:8080' -d 'where the page is served'
complete -c kindred-view -l token-file -r -F -d 'let in whoever shows the token in this file'
complete -c kindred-view -l wait -d 'begin where there is no pool yet'
complete -c kindred-view -l until-end -d 'end when the pools have ended'
complete -c kindred-view -s h -l help -d 'print the options'
