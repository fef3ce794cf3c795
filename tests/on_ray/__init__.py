"""On a real Ray cluster of two nodes, which are processes of this machine; one of them is killed (`make
ray-test`).
"""
