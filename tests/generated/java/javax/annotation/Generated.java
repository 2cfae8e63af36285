package javax.annotation;

/** What the generated classes are marked with. It comes with a dependency that has nothing else which they need. */
public @interface Generated {
    String[] value();

    String date() default "";

    String comments() default "";
}
