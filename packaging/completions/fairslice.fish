# Loaded at the first Tab: the words are those of the command that is installed.
fairslice completion fish | source
