"""Files that survive a crash: `files` syncs them, replaces them in one step and hashes them."""
