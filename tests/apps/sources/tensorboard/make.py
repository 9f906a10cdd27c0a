import numpy
from tensorboard.summary import Writer

writer = Writer("logs")
for step in range(10):
    writer.add_scalar("loss", numpy.float32(1 / (1 + step)), step)
writer.close()
