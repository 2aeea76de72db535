"""`proof`: every part learns, shown on generated pictures in minutes on a CPU.

A branch is trained beside a frozen base, and a random one restores nothing. So a tiny base is trained
first, on the same pictures, with fixed orthonormal patches in the VAE's place, and a tiny tagger; then
each part on them, by the loop that trains the real ones. All figures are of pictures that no training
has seen.
"""
