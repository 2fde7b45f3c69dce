# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_fairslice_global_optspecs
    string join \n h/help V/version
end

function __fish_fairslice_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_fairslice_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_fairslice_using_subcommand
    set -l cmd (__fish_fairslice_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c fairslice -n "__fish_fairslice_needs_command" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_needs_command" -s V -l version -d 'Print version'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "check" -d 'Validate the policy, or FILEs as one policy: every error, with file, line and column'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "policy" -d 'Print the merged policy that is in force, and where each value comes from'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "status" -d 'Show slices, units and logins: what they use, what they are due, what is not as declared'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "report" -d 'Write one page for a review: tree, settings, memory, kill order, findings and policy, as HTML'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "fleet" -d 'Show what "fairslice status --json" said of many hosts in one table, the worst first'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "me" -d 'Say what you are due of this machine and get, which limits hold you, and who set each'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "doctor" -d 'Find what is not as it was meant: each thing once, the worst first, with cause and fix'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "explain" -d 'Say what something comes to, and why: a login, a unit, a process, CPU shares, memory, the kill order'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "drill" -d 'Prove it: start loads beside services and logins, and measure what they get'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "drill-load" -d 'A load of a drill\'s'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "apply" -d 'Make the running machine what the policy says, now'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "import" -d 'Print what was set up by hand as a policy, put that in its place, and retire the files it was set in'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "export" -d 'Put the policy in the words of another system, and print what those cannot say'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "adopt" -d 'Declare launcher = true for UNITs, in a policy file of its own'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "release" -d 'Take UNITs out of that file again, and nothing else'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "withdraw" -d 'Take back what the policy has come to: what removing the package calls'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "hold" -d 'Have PID 1 keep limits that are below what is used: what installing the package calls before a reload'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "installed" -d 'Say in two lines at most what is in force, what waits for a restart and what is wrong: what installing the package ends with'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "private-dir" -d 'Look after private directories'
complete -c fairslice -n "__fish_fairslice_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand check" -l export -d 'Print what an export in these words would lose as well, and write nothing' -r -f -a "kubernetes\t'PriorityClasses, patches and a drop-in for the kubelet'"
complete -c fairslice -n "__fish_fairslice_using_subcommand check" -l node-cpus -d 'The node\'s CPUs [default: this machine\'s]' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand check" -l node-memory -d 'The node\'s memory, as 16G [default: this machine\'s]' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fairslice -n "__fish_fairslice_using_subcommand policy" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand status" -l watch -d 'Refresh in place, every SECONDS' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand status" -l format -d 'How to print it' -r -f -a "text\t'For people'
json\t'One object, as /usr/share/doc/fairslice/json describes it'
openmetrics\t'For Prometheus, and the textfile collector of its node exporter'"
complete -c fairslice -n "__fish_fairslice_using_subcommand status" -l output -d 'Write that to FILE, whole or not at all, instead of printing it' -r -F
complete -c fairslice -n "__fish_fairslice_using_subcommand status" -l json -d 'Short for --format=json'
complete -c fairslice -n "__fish_fairslice_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fairslice -n "__fish_fairslice_using_subcommand report" -l output -d 'Write it to FILE, whole or not at all, instead of printing it' -r -F
complete -c fairslice -n "__fish_fairslice_using_subcommand report" -l drill -d 'What "fairslice drill --json" has printed, to be put beside what is declared' -r -F
complete -c fairslice -n "__fish_fairslice_using_subcommand report" -l svg -d 'The picture of the tree alone, as SVG'
complete -c fairslice -n "__fish_fairslice_using_subcommand report" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand fleet" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand fleet" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand me" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand me" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand doctor" -l fix -d 'Do what needs no restart and changes nothing of the administrator\'s, after showing it'
complete -c fairslice -n "__fish_fairslice_using_subcommand doctor" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand doctor" -l no-policy -d 'Leave the policy out: what is wrong on any machine'
complete -c fairslice -n "__fish_fairslice_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "login" -d 'Which rule holds for USER, and what the login gets: slice, weights, limits, directories'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "unit" -d 'The way of each value of UNIT: policy, drop-in, PID 1, cgroupfs, process'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "share" -d 'Which part of the machine\'s CPU time, or of its disks\', each unit, slice and login gets when all are busy'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "memory" -d 'What is protected of each unit\'s memory and which ceiling holds; of NAME, how that comes about'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "oom" -d 'Who is killed next when memory runs out, what goes with it, and who never is'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "process" -d 'What process PID is due of the machine and gets, which limits hold it, and who set each'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and not __fish_seen_subcommand_from login unit share memory oom process help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from login" -l service -d 'The PAM service of the login: a file in /etc/pam.d' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from login" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from login" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from unit" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from unit" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from share" -l busy -d 'Only these are busy, each with a thread for every CPU; and the one that is asked about' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from share" -l io -d 'The time of each disk instead of the CPUs\''
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from share" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from share" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from memory" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from memory" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from oom" -l of -d 'The memory of this unit or user runs out, not the machine\'s' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from oom" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from oom" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from process" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from process" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "login" -d 'Which rule holds for USER, and what the login gets: slice, weights, limits, directories'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "unit" -d 'The way of each value of UNIT: policy, drop-in, PID 1, cgroupfs, process'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "share" -d 'Which part of the machine\'s CPU time, or of its disks\', each unit, slice and login gets when all are busy'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "memory" -d 'What is protected of each unit\'s memory and which ceiling holds; of NAME, how that comes about'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "oom" -d 'Who is killed next when memory runs out, what goes with it, and who never is'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "process" -d 'What process PID is due of the machine and gets, which limits hold it, and who set each'
complete -c fairslice -n "__fish_fairslice_using_subcommand explain; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill" -l cpu -d 'Busy loads on one CPU: does each service and login get its part of it? The default'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill" -l kill-order -d 'A cgroup of its own that runs out of memory: who is killed first in there?'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill" -s y -l yes -d 'Do not ask'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill" -l dry-run -d 'Print which loads would be started and what they are due, and start none'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand drill-load" -l score -d 'The OOM score adjustment to have' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand drill-load" -l hold -d 'Hold so many bytes, instead of keeping a CPU busy' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand drill-load" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand apply" -l dry-run -d 'Print what would change, and change nothing'
complete -c fairslice -n "__fish_fairslice_using_subcommand apply" -l restart -d 'Restart the services that need it too, but those that people are logged in through'
complete -c fairslice -n "__fish_fairslice_using_subcommand apply" -l force -d 'Set limits below what is used too: the kernel kills what does not fit'
complete -c fairslice -n "__fish_fairslice_using_subcommand apply" -l logins -d 'Only what logins are given: users\' slices, and the weight of all of them'
complete -c fairslice -n "__fish_fairslice_using_subcommand apply" -l json -d 'Print one object, as /usr/share/doc/fairslice/json describes it'
complete -c fairslice -n "__fish_fairslice_using_subcommand apply" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand import" -l write -d 'Write it to /etc/fairslice/policy.d/60-imported.toml, where there is no such file; "fairslice apply" puts it in force'
complete -c fairslice -n "__fish_fairslice_using_subcommand import" -l retire -d 'Move files aside, to /etc/fairslice/retired, that say no more than the policy in force'
complete -c fairslice -n "__fish_fairslice_using_subcommand import" -l restore -d 'Put the files back that --retire has moved'
complete -c fairslice -n "__fish_fairslice_using_subcommand import" -l dry-run -d 'With --retire or --restore: name the files, and move none'
complete -c fairslice -n "__fish_fairslice_using_subcommand import" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and not __fish_seen_subcommand_from kubernetes help" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and not __fish_seen_subcommand_from kubernetes help" -f -a "kubernetes" -d 'Write PriorityClasses, a patch for each service and a drop-in for the kubelet, and print what is lost'
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and not __fish_seen_subcommand_from kubernetes help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and __fish_seen_subcommand_from kubernetes" -l node-cpus -d 'The node\'s CPUs [default: this machine\'s]' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and __fish_seen_subcommand_from kubernetes" -l node-memory -d 'The node\'s memory, as 16G [default: this machine\'s]' -r
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and __fish_seen_subcommand_from kubernetes" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and __fish_seen_subcommand_from help" -f -a "kubernetes" -d 'Write PriorityClasses, a patch for each service and a drop-in for the kubelet, and print what is lost'
complete -c fairslice -n "__fish_fairslice_using_subcommand export; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand adopt" -l all -d 'adopt: every service that a slice of the policy holds; release: every one adopted'
complete -c fairslice -n "__fish_fairslice_using_subcommand adopt" -l dry-run -d 'Print the change as a diff, of the commands too, and make none'
complete -c fairslice -n "__fish_fairslice_using_subcommand adopt" -l restart -d 'Restart those of the changed services that run, instead of naming them'
complete -c fairslice -n "__fish_fairslice_using_subcommand adopt" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand release" -l all -d 'adopt: every service that a slice of the policy holds; release: every one adopted'
complete -c fairslice -n "__fish_fairslice_using_subcommand release" -l dry-run -d 'Print the change as a diff, of the commands too, and make none'
complete -c fairslice -n "__fish_fairslice_using_subcommand release" -l restart -d 'Restart those of the changed services that run, instead of naming them'
complete -c fairslice -n "__fish_fairslice_using_subcommand release" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand withdraw" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand hold" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand installed" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and not __fish_seen_subcommand_from age reclaim help" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and not __fish_seen_subcommand_from age reclaim help" -f -a "age" -d 'Remove what nobody has used for as long as the policy says'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and not __fish_seen_subcommand_from age reclaim help" -f -a "reclaim" -d 'Make a user\'s own what others have left in the user\'s private directories'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and not __fish_seen_subcommand_from age reclaim help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and __fish_seen_subcommand_from age" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and __fish_seen_subcommand_from reclaim" -s h -l help -d 'Print help'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and __fish_seen_subcommand_from help" -f -a "age" -d 'Remove what nobody has used for as long as the policy says'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and __fish_seen_subcommand_from help" -f -a "reclaim" -d 'Make a user\'s own what others have left in the user\'s private directories'
complete -c fairslice -n "__fish_fairslice_using_subcommand private-dir; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "check" -d 'Validate the policy, or FILEs as one policy: every error, with file, line and column'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "policy" -d 'Print the merged policy that is in force, and where each value comes from'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "status" -d 'Show slices, units and logins: what they use, what they are due, what is not as declared'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "report" -d 'Write one page for a review: tree, settings, memory, kill order, findings and policy, as HTML'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "fleet" -d 'Show what "fairslice status --json" said of many hosts in one table, the worst first'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "me" -d 'Say what you are due of this machine and get, which limits hold you, and who set each'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "doctor" -d 'Find what is not as it was meant: each thing once, the worst first, with cause and fix'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "explain" -d 'Say what something comes to, and why: a login, a unit, a process, CPU shares, memory, the kill order'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "drill" -d 'Prove it: start loads beside services and logins, and measure what they get'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "drill-load" -d 'A load of a drill\'s'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "apply" -d 'Make the running machine what the policy says, now'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "import" -d 'Print what was set up by hand as a policy, put that in its place, and retire the files it was set in'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "export" -d 'Put the policy in the words of another system, and print what those cannot say'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "adopt" -d 'Declare launcher = true for UNITs, in a policy file of its own'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "release" -d 'Take UNITs out of that file again, and nothing else'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "withdraw" -d 'Take back what the policy has come to: what removing the package calls'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "hold" -d 'Have PID 1 keep limits that are below what is used: what installing the package calls before a reload'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "installed" -d 'Say in two lines at most what is in force, what waits for a restart and what is wrong: what installing the package ends with'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "private-dir" -d 'Look after private directories'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and not __fish_seen_subcommand_from check policy status report fleet me doctor explain drill drill-load apply import export adopt release withdraw hold installed private-dir help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from explain" -f -a "login" -d 'Which rule holds for USER, and what the login gets: slice, weights, limits, directories'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from explain" -f -a "unit" -d 'The way of each value of UNIT: policy, drop-in, PID 1, cgroupfs, process'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from explain" -f -a "share" -d 'Which part of the machine\'s CPU time, or of its disks\', each unit, slice and login gets when all are busy'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from explain" -f -a "memory" -d 'What is protected of each unit\'s memory and which ceiling holds; of NAME, how that comes about'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from explain" -f -a "oom" -d 'Who is killed next when memory runs out, what goes with it, and who never is'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from explain" -f -a "process" -d 'What process PID is due of the machine and gets, which limits hold it, and who set each'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from export" -f -a "kubernetes" -d 'Write PriorityClasses, a patch for each service and a drop-in for the kubelet, and print what is lost'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from private-dir" -f -a "age" -d 'Remove what nobody has used for as long as the policy says'
complete -c fairslice -n "__fish_fairslice_using_subcommand help; and __fish_seen_subcommand_from private-dir" -f -a "reclaim" -d 'Make a user\'s own what others have left in the user\'s private directories'
