"""Several processes, one training.

Begin with `ranks`: devices, sums, who is rank 0. `parallel` has DDP, ZeRO-1 and FSDP behind one
interface, `rendezvous` lets the ranks of one start find each other.
"""
