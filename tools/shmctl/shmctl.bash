# SPDX-License-Identifier: MIT
# Completion of shmctl for bash.

_shmctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words

	case $COMP_CWORD,$command,${COMP_WORDS[COMP_CWORD-1]} in
	1,*) words='list stat --help --version' ;;
	*,--timeout | *,--interval | *,--count) words= ;;
	*,list,*) words='--json --timeout --help' ;;
	*,stat,*)
		words='--json --interval --count --timeout --help'
		# The first column of the table, down to its notes.
		[[ $word == -* ]] || words=$(shmctl list --timeout 50 \
			2>/dev/null | awk 'NR > 1 && $2 ~ /^([0-9]+|-)$/ { print $1 }')
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _shmctl shmctl
