# fish completion for kindred-tail
complete -c kindred-tail -f
complete -c kindred-tail -n '__fish_is_first_token' -a "(kindred-tail 2>/dev/null | string match -r '^ *[0-9]+(?:/[0-9]+)?' | string trim)"
complete -c kindred-tail -s l -l level -x -a 'trace debug info warn error critical' -d 'records of that level and above'
complete -c kindred-tail -s w -l worker -x -a 'parent 0 1 2 3' -d 'records of one worker, or of the parent'
complete -c kindred-tail -s t -l task -x -d 'records of one task, or of tasks of that name'
complete -c kindred-tail -l logger -x -d 'records of that logger and those below it'
complete -c kindred-tail -l node -x -d 'records of these nodes of a cluster'
complete -c kindred-tail -l text -x -d 'records whose message contains the text'
complete -c kindred-tail -s S -l since -x -a 'today yesterday "10 min"' -d 'records since then'
complete -c kindred-tail -s n -l lines -x -a 'all 10 100' -d 'begin with the last N that are kept'
complete -c kindred-tail -l last -x -a 'all 10 100' -d 'the same'
complete -c kindred-tail -s f -l follow -d 'go on with the records that come'
complete -c kindred-tail -l no-follow -d 'end after the records that are kept now'
complete -c kindred-tail -l set-level -x -a 'trace debug info warn error critical off' -d 'set the level of the pool'
complete -c kindred-tail -l json -d 'one JSON object a line'
complete -c kindred-tail -l pattern -x -d 'lines as that pattern makes them'
complete -c kindred-tail -l color -x -a 'auto always never' -d 'when to colour'
complete -c kindred-tail -s h -l help -d 'print the options'
