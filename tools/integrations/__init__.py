"""The journal in other people's training loops: a file a framework, each thin."""
