"""The public interface: which names `ssmspec` has, and the objects that its functions return."""
