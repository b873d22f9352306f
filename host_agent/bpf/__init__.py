"""The frame path in tc-BPF: frame.h reads a frame, clock.h the time, nic.bpf.c steers, team.bpf.c keeps the records."""
