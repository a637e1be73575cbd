"""Training with several processes.

Start with `ranks`: devices and dtype, sums over ranks, which rank is 0. `parallel` has DDP, ZeRO-1
and FSDP behind one interface; `rendezvous` connects the ranks of one start.
"""
